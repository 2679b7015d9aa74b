"""What changed between two snapshots, so that a page with tens of thousands of GPUs is sent only that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from tessera.dashboard.states import GpuState, LeaseState, NodeState, PodState, Snapshot, Totals

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Changes:
    """New and changed states, keys of those gone, and the totals after. Applied to ``old`` it gives ``new``."""

    gpus: tuple[GpuState, ...]
    nodes: tuple[NodeState, ...]
    pods: tuple[PodState, ...]
    leases: tuple[LeaseState, ...]
    gone_gpus: tuple[str, ...]
    gone_nodes: tuple[str, ...]
    gone_pods: tuple[str, ...]
    gone_leases: tuple[str, ...]
    totals: Totals

    def __bool__(self) -> bool:
        new = (self.gpus, self.nodes, self.pods, self.leases)
        return any((*new, self.gone_gpus, self.gone_nodes, self.gone_pods, self.gone_leases))


def between(old: Snapshot, new: Snapshot) -> Changes:
    """The changes that lead from ``old`` to ``new``."""
    return Changes(
        _changed(old.gpus, new.gpus), _changed(old.nodes, new.nodes), _changed(old.pods, new.pods),
        _changed(old.leases, new.leases), _gone(old.gpus, new.gpus), _gone(old.nodes, new.nodes),
        _gone(old.pods, new.pods), _gone(old.leases, new.leases), new.totals,
    )  # fmt: skip


def _changed(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[T, ...]:
    return tuple(state for key, state in new.items() if old.get(key) != state)


def _gone(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[str, ...]:
    return tuple(key for key in old if key not in new)
