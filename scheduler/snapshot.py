"""A live cluster as it stands now, read once: for questions that are asked once and followed by nothing.

Lists, no watch. They are of several moments, so a pod may name a node that the nodes' list has not; the ledger
takes facts in any order, and charges such a pod to nothing that is offered.
"""

import asyncio
from dataclasses import dataclass

from tessera.kube import wire
from tessera.kube.convert import gpu_node_of, host_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_NODES, NODES, PODS
from tessera.model.demands import wants_slice
from tessera.model.domains import Namespace
from tessera.model.gpu_leases import GpuLease
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.told import told_leases, told_namespaces
from tessera.scheduler.watching import brief_pod_of


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the cluster has. ``waiting``: those of ``pods`` that ask for slices, are not bound and held by no gate.

    ``namespaces`` are read where a label of theirs decides who may share a GPU, ``leases`` where slices may be on other
    nodes than their pods.
    """

    hosts: tuple[Host, ...]
    nodes: tuple[GpuNode, ...]
    pods: tuple[Pod, ...]
    waiting: tuple[Pod, ...]
    namespaces: tuple[Namespace, ...] = ()
    leases: tuple[GpuLease, ...] = ()

    def feed(self, engine: Engine) -> None:
        """Makes all of it known to ``engine``, in place of what it knew."""
        engine.replace_namespaces(self.namespaces)
        engine.replace_hosts(self.hosts)
        engine.replace_nodes(self.nodes)
        engine.leases.replace(self.leases)
        engine.replace_pods(self.pods)


async def read(gateway: Gateway, options: Options) -> Snapshot:
    """The cluster now, for an engine of ``options``. The user must be allowed to list nodes, GPUNodes and pods in all
    namespaces, and namespaces where a label of theirs decides, and GPULeases where there is a pool."""
    hosts, nodes, pods, namespaces, leases = await asyncio.gather(
        _hosts(gateway), _gpu_nodes(gateway), _pods(gateway), told_namespaces(gateway, options),
        told_leases(gateway, options),
    )  # fmt: skip
    waiting = tuple(pod for pod, gated in pods if not gated and _waits(pod))
    known = tuple(pod for pod, _ in pods)
    return Snapshot(tuple(hosts), tuple(nodes), known, waiting, tuple(namespaces), tuple(leases))


def _waits(pod: Pod) -> bool:
    return wants_slice(pod) and not (pod.node or pod.ended or pod.deleting)


async def _hosts(gateway: Gateway) -> list[Host]:
    return [host_of(node) async for page in gateway.list_pages(NODES) for node in page.items]


async def _gpu_nodes(gateway: Gateway) -> list[GpuNode]:
    try:
        return [gpu_node_of(node) async for page in gateway.list_pages(GPU_NODES) for node in page.items]
    except ApiError as error:
        if error.not_found:
            message = "the cluster has no GPUNodes: Tessera is not installed there"
            raise ApiError(error.status, error.reason, message) from error
        raise


async def _pods(gateway: Gateway) -> list[tuple[Pod, bool]]:
    """Each pod, and whether a scheduling gate holds it."""
    return [_pod(pod) async for page in gateway.list_pages(PODS) for pod in page.items]


def _pod(pod: wire.Pod) -> tuple[Pod, bool]:
    return brief_pod_of(pod), bool(pod.spec.scheduling_gates)
