"""Reads the cluster as a plan of moves needs it: into an engine, and as a population with its owners and rules."""

import asyncio

from tessera.kube.convert import gpu_node_of, host_of
from tessera.kube.gateway import Gateway
from tessera.kube.resources import GPU_NODES, NODES
from tessera.scheduler.engine import Engine
from tessera.scheduler.residents import RESIDENTS, Population, population
from tessera.scheduler.told import told_leases, told_namespaces


async def census(gateway: Gateway) -> Population:
    """Lists nodes and pods of all namespaces; raises what the gateway raises."""
    nodes, pods = await asyncio.gather(gateway.list(NODES), gateway.list(RESIDENTS))
    return population(pods, nodes)


async def read(gateway: Gateway, engine: Engine) -> Population:
    """As ``census``, and feeds ``engine`` with the same objects, the GPUs and, where they matter, namespaces and
    GPULeases."""
    gpu_nodes, found, labelled, leases = await asyncio.gather(
        gateway.list(GPU_NODES), census(gateway), told_namespaces(gateway, engine.options),
        told_leases(gateway, engine.options),
    )  # fmt: skip
    engine.leases.replace(leases)
    engine.replace_namespaces(labelled)
    engine.replace_nodes(gpu_node_of(node) for node in gpu_nodes)
    engine.replace_hosts(host_of(node) for node in found.nodes.values())
    engine.replace_pods(each.pod for each in found.residents.values())
    return found
