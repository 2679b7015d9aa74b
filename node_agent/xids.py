"""What an Xid error says about a GPU.

After NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors) and the list that NVIDIA's device plugin leaves to the
application: a fault of a program leaves the GPU healthy; some errors are news only; some need a reset before the GPU
can be trusted; any other takes the GPU out until it has been quiet for a while.
"""

from enum import StrEnum


class Effect(StrEnum):
    """What follows from an Xid."""

    APPLICATION = "application"
    NEWS = "news"
    RESET = "reset"
    QUIET = "quiet"


_APPLICATION = frozenset({13, 31, 43, 45, 68, 69, 109})
_NEWS = frozenset({63, 92, 121})
_RESET = {
    46: "GPU stopped processing",
    48: "double bit ECC error",
    54: "auxiliary power is not connected",
    61: "internal micro-controller breakpoint",
    62: "internal micro-controller halt",
    64: "row remapping or page retirement failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    95: "uncontained ECC error",
    110: "security fault",
    119: "GSP RPC timeout",
    120: "GSP error",
    136: "link training failed",
    140: "unrecovered ECC error",
    143: "GPU initialisation failed",
    154: "GPU recovery action changed",
    157: "resource retirement failed",
    158: "GPU fatal timeout",
}
_NAMES = {
    8: "GPU stopped processing",
    13: "graphics engine exception",
    31: "GPU memory page fault",
    43: "GPU stopped processing",
    45: "preemptive cleanup",
    63: "row remapping or page retirement pending",
    68: "video processor exception",
    69: "graphics engine class error",
    92: "high rate of single bit ECC errors",
    94: "contained ECC error",
    109: "context switch timeout",
    121: "corrected C2C error",
}


def effect_of(code: int) -> Effect:
    """What an Xid does to the GPU's health; an unknown one takes it out until it is quiet."""
    if code in _APPLICATION:
        return Effect.APPLICATION
    if code in _NEWS:
        return Effect.NEWS
    return Effect.RESET if code in _RESET else Effect.QUIET


def describe(code: int) -> str:
    """``Xid 79: GPU has fallen off the bus``."""
    name = _RESET.get(code) or _NAMES.get(code)
    return f"Xid {code}: {name}" if name else f"Xid {code}"
