"""Slices over several GPUs: which of a node's GPUs one limiter holds together. Pure.

A program reaches one MPS daemon only. So a slice over GPUs of several daemons is watched and no more, whatever the
level of each GPU; and a partitioned GPU (level 2) has a daemon of its own. The watcher and the driver reach all GPUs.
The node agent asks this of the GPUs of one slice, the scheduler of the arrays of its ledger.
"""

from collections.abc import Sequence

from tessera.model.gpus import LEVEL_MPS, LEVEL_PARTITION, LEVEL_WATCH, Gpu


def spans(gpus: Sequence[Gpu]) -> list[int]:
    """The span of each GPU, by the place of its first one: a slice is held over GPUs of one span only."""
    first: dict[str, int] = {}
    return [first.setdefault(_limiter(gpu), index) for index, gpu in enumerate(gpus)]


def level_over(gpus: Sequence[Gpu]) -> int:
    """The level that a slice over ``gpus``, at least one, is held at."""
    lowest = min(gpu.level for gpu in gpus)
    return lowest if len(set(spans(gpus))) == 1 else min(lowest, LEVEL_WATCH)


def _limiter(gpu: Gpu) -> str:
    """Names what holds slices there; empty for what reaches all GPUs of the node."""
    if gpu.level == LEVEL_MPS:
        return gpu.mps_group or gpu.uuid
    return gpu.uuid if gpu.level == LEVEL_PARTITION else ""
