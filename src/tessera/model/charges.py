"""The room that a pod holds, read from the pod itself.

This is the one place that says which pods hold room: every bound pod whose containers have not all ended, whether or
not its deletion was asked for, and whether or not its assignment can be read.
"""

from dataclasses import dataclass

from tessera.model import names, sharing
from tessera.model.assignment import Assignment, AssignmentError, decode
from tessera.model.demands import PodDemand, wants_slice
from tessera.model.pods import Kind, Pod
from tessera.model.quantities import QuantityError, parse_whole


@dataclass(frozen=True, slots=True)
class Totals:
    """A pod's requests as the kubelet sums them against the node's capacity."""

    mem_bytes: int = 0
    core_percent: int = 0
    gpus: int = 0
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """The room that one pod holds on a node.

    ``assignment`` is ``None`` for a bound pod that has no valid one: its requests count all the same, because the
    kubelet counts them.
    """

    node: str
    totals: Totals
    assignment: Assignment | None = None


def charge_of(pod: Pod) -> Charge | None:
    """The room that ``pod`` holds by what the API server says, or ``None``."""
    if not pod.node or pod.ended or not wants_slice(pod):
        return None
    try:
        assignment = decode(pod.annotations[names.ASSIGNMENT]) if names.ASSIGNMENT in pod.annotations else None
    except AssignmentError:
        assignment = None
    return Charge(pod.node, totals_of(pod), assignment)


def totals_of(pod: Pod) -> Totals:
    """The kubelet's sums for ``pod``: containers and sidecars; a malformed figure counts 0."""
    sums = dict.fromkeys((names.GPU_MEM, names.GPU_CORE, names.GPU, names.SLICE), 0)
    for container in pod.containers:
        if container.kind in (Kind.APP, Kind.SIDECAR):
            for key in sums:
                sums[key] += _whole(container.limits.get(key, container.requests.get(key, "0")))
    return sharing.same(Totals(sums[names.GPU_MEM], sums[names.GPU_CORE], sums[names.GPU], sums[names.SLICE]))


def fits_demand(demand: PodDemand, assignment: Assignment) -> str:
    """Empty if ``assignment`` gives each container of ``demand`` what it asks for, else the first difference.

    Memory of a slice that names compute only depends on the GPU and is not compared here.
    """
    given = dict(assignment.containers)
    asked = {c.container: c for c in demand.containers}
    if given.keys() != asked.keys():
        return f"the assignment names containers {sorted(given)}, the pod asks for slices in {sorted(asked)}"
    for name, need in asked.items():
        shares = given[name]
        if len(shares) != need.gpus:
            return f"container {name} asks for {need.gpus} GPUs, the assignment gives {len(shares)}"
        for share in shares:
            same_mem = need.whole or not need.mem_bytes or share.mem_bytes == need.mem_bytes
            if not same_mem or share.core_percent != need.core_percent or share.whole != need.whole:
                return f"container {name} asks for {need}, the assignment gives {share}"
    return ""


def _whole(text: str) -> int:
    try:
        return max(0, parse_whole(text))
    except QuantityError:
        return 0
