"""The room that a pod holds, read from the pod itself.

This is the one place that says which pods hold room: every bound pod whose containers have not all ended, whether or
not its deletion was asked for, and whether or not its assignment can be read.
"""

from dataclasses import dataclass

from tessera.model import names, sharing
from tessera.model.assignment import Assignment, AssignmentError, decode
from tessera.model.demands import PodDemand, wants_slice
from tessera.model.domains import of_namespace
from tessera.model.pods import ContainerSpec, Kind, Pod
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
    kubelet counts them. ``namespace`` is the pod's; of a lease's executor it is that of the lease.
    """

    node: str
    totals: Totals
    assignment: Assignment | None = None
    namespace: str = ""

    @property
    def domain(self) -> str:
        """The trust domain that was written when the pod was placed; where none was, its namespace is one by itself.

        That never changes while the pod runs, whatever becomes of its namespace's labels and of the setting.
        """
        return (self.assignment.domain if self.assignment else "") or of_namespace(self.namespace)


_KEPT = 1 << 13
_totals: dict[int, tuple[ContainerSpec, Totals]] = {}
"""By identity, with the container itself, so that no other takes its place."""


def charge_of(pod: Pod) -> Charge | None:
    """The room that ``pod`` holds by what the API server says, or ``None``.

    Of a pod whose slices are on other nodes these are its slots alone: the slices are its leases'.
    """
    if not pod.node or pod.ended or not wants_slice(pod):
        return None
    try:
        assignment = decode(pod.annotations[names.ASSIGNMENT]) if names.ASSIGNMENT in pod.annotations else None
    except AssignmentError:
        assignment = None
    totals = client_totals(len(assignment.leases)) if assignment and assignment.leases else totals_of(pod)
    return Charge(pod.node, totals, assignment, sharing.text(namespace_of(pod)))


def client_totals(containers: int) -> Totals:
    """What so many containers with slices on other nodes take of their own."""
    return sharing.same(Totals(slots=containers))


def namespace_of(pod: Pod) -> str:
    """Whose the slices of ``pod`` are: those of a lease's executor belong to the lease's namespace."""
    return pod.lease.partition("/")[0] or pod.namespace


def totals_of(pod: Pod) -> Totals:
    """The kubelet's sums for ``pod``: containers and sidecars; a malformed figure counts 0."""
    each = [_container_totals(c) for c in pod.containers if c.kind in (Kind.APP, Kind.SIDECAR)]
    return each[0] if len(each) == 1 else sharing.same(Totals(*map(sum, zip(*map(_figures, each), strict=True))))


def _container_totals(container: ContainerSpec) -> Totals:
    """Pods of one template have the very same containers (``kube.convert``), which are added up once."""
    known = _totals.get(id(container))
    if known is not None and known[0] is container:
        return known[1]
    keys = (names.GPU_MEM, names.GPU_CORE, names.GPU, names.SLICE)
    limits, requests = container.limits, container.requests
    totals = sharing.same(Totals(*(_whole(limits.get(key, requests.get(key, "0"))) for key in keys)))
    if len(_totals) >= _KEPT:
        _totals.clear()
    _totals[id(container)] = container, totals
    return totals


def _figures(totals: Totals) -> tuple[int, int, int, int]:
    return totals.mem_bytes, totals.core_percent, totals.gpus, totals.slots


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
