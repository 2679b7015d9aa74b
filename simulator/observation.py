"""What is true in the embedded cluster at one moment, from three sides that must agree: the API server's objects, the
containers' own view of their slices, and the node agents' records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tessera.kube import wire
from tessera.kube.convert import gpu_node_of, pod_of
from tessera.kube.gateway import Gateway
from tessera.kube.resources import EVENTS, GPU_NODES, PODS
from tessera.model.assignment import Assignment, Share
from tessera.model.charges import charge_of
from tessera.model.gpus import GpuNode
from tessera.model.ledger import Ledger
from tessera.simulator.hosts import Host

Holder = tuple[str, str]
"""A pod's UID and a container's name."""
Figures = frozenset[tuple[str, int, int]]
"""Of each GPU: UUID, bytes, percent."""


@dataclass(frozen=True, slots=True)
class Observation:
    """``ledger`` is rebuilt from the objects alone. ``views`` and ``records`` are by pod UID and container."""

    pods: Sequence[wire.Pod]
    nodes: Sequence[GpuNode]
    events: Sequence[wire.Event]
    ledger: Ledger
    views: Mapping[Holder, Figures]
    records: Mapping[Holder, Figures]

    def assignment(self, pod: wire.Pod) -> Assignment | None:
        """The slices that the pod holds room for now."""
        charge = self.ledger.charge_of(pod.metadata.uid)
        return charge.assignment if charge else None

    def figures(self) -> dict[Holder, Figures]:
        """What the ledger says, in the form of ``views`` and ``records``."""
        found: dict[Holder, Figures] = {}
        for uid, charge in self.ledger.charges().items():
            for container, shares in charge.assignment.containers if charge.assignment else ():
                found[uid, container] = figures_of(shares)
        return found


async def observe(gateway: Gateway, hosts: Sequence[Host]) -> Observation:
    """Reads everything now."""
    pods = await gateway.list(PODS)
    nodes = [gpu_node_of(node) for node in await gateway.list(GPU_NODES)]
    events = await gateway.list(EVENTS)
    views = {(view.pod_uid, view.container): figures_of(view.shares) for host in hosts for view in host.views()}
    records = {(r.pod_uid, r.container): figures_of(r.shares) for host in hosts for r in host.records()}
    return Observation(pods, nodes, events, rebuilt(nodes, pods), views, records)


def rebuilt(nodes: Sequence[GpuNode], pods: Sequence[wire.Pod]) -> Ledger:
    """The ledger as it follows from the API server's objects."""
    ledger = Ledger()
    for node in nodes:
        ledger.upsert_node(node)
    for pod in pods:
        charge = charge_of(pod_of(pod))
        if charge is not None:
            ledger.charge(pod.metadata.uid, charge)
    return ledger


def figures_of(shares: Sequence[Share]) -> Figures:
    """The shares, for comparison."""
    return frozenset((share.uuid, share.mem_bytes, share.core_percent) for share in shares)
