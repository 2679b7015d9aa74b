"""The standing lease that a user asks for, read by the rules of a pod's request and of its annotations."""

from collections.abc import Mapping
from dataclasses import dataclass

from tessera.model import names
from tessera.model.gpu_leases import Size
from tessera.model.placements import lease_preferences_of
from tessera.model.resizes import resize_of
from tessera.reasons import Reason, invalid

ANNOTATIONS = (
    names.PLACEMENT,
    names.GPU_MODEL,
    names.GPU_UUID,
    names.QOS,
    names.GPU_CORE_LIMIT,
    names.ENFORCEMENT,
)
"""What may be said of its slice, as of a pod's."""
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class NewLease:
    """``annotations``: some of ``ANNOTATIONS``."""

    size: Size
    annotations: Mapping[str, str]


def new_lease_of(
    mem: str, core: str | None, annotations: Mapping[str, str] = _NOTHING, *, prefix: str = ""
) -> NewLease | Reason:
    """Reads the quantities ``gpu-mem`` and, unless ``None``, ``gpu-core``, and the annotations; ``prefix`` stands
    before the quantities' names. Without ``gpu-core`` there is no cap."""
    asked = resize_of(mem, core, prefix=prefix)
    if isinstance(asked, Reason):
        return asked
    for key in annotations:
        if key not in ANNOTATIONS:
            return invalid("metadata.annotations", key, ", ".join(ANNOTATIONS))
    size = asked.from_size(Size(0, 0))
    read = lease_preferences_of(annotations, size.core_percent)
    return read if isinstance(read, Reason) else NewLease(size, dict(annotations))
