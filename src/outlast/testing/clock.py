"""A clock that stands still until it is told to move."""

from __future__ import annotations


class FakeClock:
    """The clocks of one machine, moved by hand; implements `outlast.store.Clock`."""

    def __init__(
        self, *, wall: float = 1_700_000_000.0, boot: float = 5_000.0, boot_id: str = "boot-1"
    ) -> None:
        self._boot, self._boot_id = boot, boot_id
        self._since = wall - boot  # so that many small steps do not drive the two apart
        self._boots = 1

    def wall(self) -> float:
        """Return seconds since 1970."""
        return self._since + self._boot

    def boot(self) -> float:
        """Return seconds since the machine started."""
        return self._boot

    def boot_id(self) -> str:
        """Return what tells this start of the machine from the others."""
        return self._boot_id

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        assert seconds >= 0, "time does not go back; a wall clock that is set does: `jump`"
        self._boot += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as people do; no time passes."""
        self._since += seconds

    def reboot(self, *, boot: float = 1.0, boot_id: str | None = None) -> None:
        """Start the machine anew: the boot clock begins again, under another id."""
        self._boots += 1
        self._since += self._boot - boot
        self._boot, self._boot_id = boot, boot_id or f"boot-{self._boots}"
