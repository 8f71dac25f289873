"""What the command `outlast worker` runs while it is told to stop; each input names the ledger."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from outlast import TaskContext, task
from tests.crash.ledger import Ledger


@task(name="crash.stubborn", steering="queue")
async def stubborn(ctx: TaskContext[dict[str, Any]]) -> list[Any]:
    """Come to no end in the process that enters it first."""
    input, way = ctx.input["input"], ctx.input["way"]

    def work(label: str) -> str:
        Ledger(Path(ctx.input["ledger"])).write("did", ctx.id, label)
        return label

    done = [input, await ctx.step("work", work, f"first {input}"), ctx.entry_mode]
    if ctx.entry_mode == "fresh":
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.write(1, b"holds\n")
        if way == "blocks":
            await ctx.step("block", threading.Event().wait)
        await asyncio.Event().wait()
    return done


def _end_with_parent() -> None:
    """End when nobody holds our standard input any more."""
    while os.read(0, 1):
        pass
    os._exit(3)
