"""`python -m outlast.testing.simulation --world steps --seeds 0:50`."""

from __future__ import annotations

import argparse
import json
import sys

from outlast.testing.simulation.campaign import Campaign, command, run_campaign
from outlast.testing.simulation.playing import play
from outlast.testing.simulation.worlds import WORLDS


def main() -> int:
    """Play what the arguments say; return 0 if all went well, and everything happened."""
    parser = argparse.ArgumentParser(
        prog="python -m outlast.testing.simulation",
        description="Play simulated worlds, and hold them against every promise.",
    )
    parser.add_argument("--world", choices=[*WORLDS, "all"], default="all")
    parser.add_argument("--seeds", type=_seeds, default=range(50), metavar="A:B")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trace", action="store_true", help="print all that happens in each seed")
    parser.add_argument("--last", type=int, default=40, help="lines of a failure's trace")
    arguments = parser.parse_args()
    names = list(WORLDS) if arguments.world == "all" else [arguments.world]
    if arguments.trace:
        for name in names:
            for seed in arguments.seeds:
                print(*play(WORLDS[name], seed).trace, sep="\n")  # noqa: T201 - a command's output
        return 0
    campaigns: list[Campaign] = []
    for name in names:
        campaigns.append(run_campaign(name, arguments.seeds))
        if not arguments.json:
            print(_told(campaigns[-1], arguments.last), flush=True)  # noqa: T201
    if arguments.json:
        print(json.dumps([one.to_json() for one in campaigns], indent=2))  # noqa: T201
    is_whole = len(arguments.seeds) > 1  # one seed cannot show everything
    return int(any(c.failures or (is_whole and c.missing) for c in campaigns))


def _seeds(text: str) -> range:
    first, colon, end = text.partition(":")
    return range(int(first), int(end) if colon else int(first) + 1)


def _told(campaign: Campaign, last: int) -> str:
    lines = [f"{campaign.world}: {WORLDS[campaign.world].about}; {campaign.seeds} seeds"]
    lines += [f"  {count:>9,} {what}" for what, count in sorted(campaign.totals.items()) if count]
    if campaign.missing:
        lines.append(f"  never happened: {', '.join(campaign.missing)}")
    for failure in campaign.failures:
        lines += ["", f"  seed {failure.seed}: {failure.what}"]
        lines += [f"    {happening}" for happening in failure.trace[-last:]]
        lines.append(f"  again: {command(campaign.world, failure.seed)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
