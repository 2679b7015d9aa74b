"""Which GPUs of a node share one MPS daemon. Pure.

A process reaches one daemon only, so a slice over several GPUs is held where all of them belong to one; and whatever
faults on one of them ends the work on all.
"""

import hashlib
from collections.abc import Iterable, Sequence
from enum import StrEnum

from tessera.model.gpus import Linked, islands

Group = tuple[str, ...]
"""UUIDs, sorted."""


class Extent(StrEnum):
    """How far a group reaches: one GPU, those that NVLinks join, or the node."""

    GPU = "gpu"
    NVLINK_ISLAND = "nvlink-island"
    NODE = "node"


def partition(gpus: Sequence[Linked], extent: Extent, kept: Iterable[Group] = ()) -> dict[str, Group]:
    """The group of each GPU.

    ``kept``: groups that stay as they are since containers depend on their daemons; the other GPUs share without them.
    """
    out = {uuid: group for group in kept for uuid in group}
    rest: dict[int, list[str]] = {}
    for gpu, number in zip(gpus, _numbers(gpus, extent), strict=True):
        if gpu.uuid not in out:
            rest.setdefault(number, []).append(gpu.uuid)
    return {**out, **{uuid: tuple(sorted(uuids)) for uuids in rest.values() for uuid in uuids}}


def name_of(group: Group) -> str:
    """Names the group's folder: short, since the path of a socket in it must fit into 107 bytes."""
    if len(group) == 1:
        return group[0]
    return f"group-{hashlib.blake2s(','.join(group).encode(), digest_size=6).hexdigest()}"


def _numbers(gpus: Sequence[Linked], extent: Extent) -> list[int]:
    match extent:
        case Extent.GPU:
            return list(range(len(gpus)))
        case Extent.NVLINK_ISLAND:
            return islands(gpus)
        case Extent.NODE:
            return [0] * len(gpus)
