"""A live cluster as it stands now, read into an engine: for questions that are asked once and followed by nothing.

Three lists, no watch. They are of three moments, so a pod may name a node that the nodes' list has not; the ledger
takes facts in any order, and charges such a pod to nothing that is offered.
"""

import asyncio

from tessera.kube.convert import gpu_node_of, host_of
from tessera.kube.errors import ApiError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_NODES, NODES, PODS
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.watching import brief_pod_of


async def load(gateway: Gateway, engine: Engine) -> None:
    """Feeds ``engine`` with the hosts, GPUs and pods of the cluster; raises what the gateway raises.

    The user must be allowed to list nodes, GPUNodes and pods in all namespaces.
    """
    hosts, nodes, pods = await asyncio.gather(_hosts(gateway), _gpu_nodes(gateway), _pods(gateway))
    engine.replace_hosts(hosts)
    engine.replace_nodes(nodes)
    engine.replace_pods(pods)


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


async def _pods(gateway: Gateway) -> list[Pod]:
    return [brief_pod_of(pod) async for page in gateway.list_pages(PODS) for pod in page.items]
