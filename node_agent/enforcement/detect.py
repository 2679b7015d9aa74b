"""Which level of enforcement each GPU has, with the evidence.

Whatever the setting, a GPU whose driver does not tell the bytes of its processes, or which processes it has, is not
even watched (-1): one such answer is a condition, ``BLIND_READS`` in a row lower the level and as many good ones raise
it again.
"""

from dataclasses import dataclass, replace

from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.port import Finding
from tessera.node_agent.nvml import Device

BLIND_READS = 3


@dataclass(frozen=True, slots=True)
class Streak:
    """Something that is good or bad, and how often in a row it was seen to be the other."""

    bad: bool = False
    contrary: int = 0

    def after(self, bad: bool) -> "Streak":
        """Seen once more."""
        if bad == self.bad:
            return Streak(self.bad)
        if self.contrary + 1 >= BLIND_READS:
            return Streak(bad)
        return Streak(self.bad, self.contrary + 1)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the driver told of a GPU: bytes ``untold``, or its processes ``unread`` because of the last ``error``."""

    untold: Streak = Streak()
    unread: Streak = Streak()
    error: str = ""

    @property
    def blind(self) -> bool:
        """Whether what processes use is not known, for long enough to believe it."""
        return self.untold.bad or self.unread.bad

    def after(self, blind: bool | None) -> "Sight":
        """The processes were read; ``blind``: of some the bytes were not told, ``None``: there were none."""
        untold = self.untold if blind is None else self.untold.after(blind)
        return replace(self, untold=untold, unread=self.unread.after(False))

    def failed(self, error: str) -> "Sight":
        """The processes could not be read."""
        return replace(self, unread=self.unread.after(True), error=error)


def finding_of(device: Device, wanted: Finding, sight: Sight, *, wsl: bool, allow_unwatched: bool) -> Finding:
    """The level of a GPU, at most ``wanted``. MIG devices are whole units, whatever the operator allows."""
    if device.parent:
        return Finding(LEVEL_NONE, "a MIG device: given out whole only")
    if device.mig:
        return Finding(LEVEL_NONE, "the GPU is in MIG mode")
    unwatched = ""
    if wsl:
        unwatched = "WSL: the driver does not tell the memory of processes"
    elif sight.unread.bad:
        unwatched = f"the processes could not be read, {BLIND_READS} times in a row: {sight.error}"
    elif sight.untold.bad:
        unwatched = f"the driver did not tell the memory of processes, {BLIND_READS} times in a row"
    if unwatched and allow_unwatched:
        return Finding(LEVEL_WATCH, f"{unwatched}; allowed by the operator")
    if unwatched:
        return Finding(LEVEL_NONE, unwatched)
    return wanted
