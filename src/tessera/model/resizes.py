"""The size that a user asks of a slice on another node, read by the rules of a pod's request."""

from dataclasses import dataclass

from tessera.model.demands import MAX_MEM_BYTES, MEM_ALLOWED, whole_between
from tessera.model.gpu_leases import Size
from tessera.model.quantities import round_up
from tessera.reasons import Reason

CORE_ALLOWED = "a whole number from 0, no cap, to 100"


@dataclass(frozen=True, slots=True)
class Resize:
    """``mem_bytes`` is whole MiB; ``core_percent`` ``None`` keeps what there is."""

    mem_bytes: int
    core_percent: int | None = None

    def from_size(self, present: Size) -> Size:
        """What ``present`` is to become."""
        return Size(self.mem_bytes, present.core_percent if self.core_percent is None else self.core_percent)


def resize_of(mem: str, core: str | None, *, prefix: str = "") -> Resize | Reason:
    """Reads the quantities ``gpu-mem`` and, unless ``None``, ``gpu-core``; ``prefix`` stands before their names.

    Memory that is no whole MiB is rounded up to it, as a pod's is.
    """
    found = whole_between(f"{prefix}gpu-mem", mem, 1, MAX_MEM_BYTES, MEM_ALLOWED)
    if isinstance(found, Reason):
        return found
    cap = None if core is None else whole_between(f"{prefix}gpu-core", core, 0, 100, CORE_ALLOWED)
    return cap if isinstance(cap, Reason) else Resize(round_up(found), cap)
