"""Which level of enforcement each GPU has, with the evidence.

Whatever the setting, a GPU whose driver does not tell the bytes of its processes is not even watched (-1): one such
answer is a condition, ``BLIND_READS`` in a row lower the level and as many good ones raise it again.
"""

from dataclasses import dataclass

from tessera.model.gpus import LEVEL_NONE, LEVEL_WATCH
from tessera.node_agent.enforcement.port import Finding
from tessera.node_agent.nvml import Device

BLIND_READS = 3


@dataclass(frozen=True, slots=True)
class Sight:
    """How often in a row the driver has, or has not, told the bytes of every process."""

    blind: bool = False
    streak: int = 0

    def after(self, blind_now: bool) -> "Sight":
        """One more reading with at least one process on the GPU."""
        if blind_now == self.blind:
            return Sight(self.blind, 0)
        if self.streak + 1 >= BLIND_READS:
            return Sight(blind_now, 0)
        return Sight(self.blind, self.streak + 1)


def finding_of(device: Device, wanted: Finding, sight: Sight, *, wsl: bool, allow_unwatched: bool) -> Finding:
    """The level of a GPU, at most ``wanted``."""
    unwatched = ""
    if wsl:
        unwatched = "WSL: the driver does not tell the memory of processes"
    elif sight.blind:
        unwatched = f"the driver did not tell the memory of processes, {BLIND_READS} times in a row"
    if unwatched and allow_unwatched:
        return Finding(LEVEL_WATCH, f"{unwatched}; allowed by the operator")
    if unwatched:
        return Finding(LEVEL_NONE, unwatched)
    if device.mig and wanted.level > LEVEL_WATCH:
        return Finding(LEVEL_WATCH, "the GPU is in MIG mode")
    return wanted
