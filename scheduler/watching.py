"""Feeds the engine with what the API server says of pods, GPUs and hosts."""

from dataclasses import replace

import msgspec

from tessera.kube import wire
from tessera.kube.convert import gpu_lease_of, pod_of
from tessera.kube.reflector import Change, Deleted, Listed, Replaced, Told, Upserted
from tessera.model import names
from tessera.model.demands import wants_slice
from tessera.model.domains import Namespace
from tessera.model.gpu_leases import GpuLease
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine


def brief_pod_of(pod: wire.Pod) -> Pod:
    """The pod as the scheduler reads it; of one without slices, where it runs and what it needs of its host."""
    own = {key: text for key, text in pod.metadata.annotations.items() if names.DOMAIN in key}
    read = pod_of(pod, own)
    return read if wants_slice(read) else replace(read, containers=(), annotations={}, resources={}, owner="")


def pod_sink(engine: Engine, change: Told[Pod]) -> None:
    """Takes one change of the pods' reflector, pods without slices among them: they too take CPU and memory."""
    match change:
        case Replaced(objects):
            engine.replace_pods(objects)
        case Listed(objects, uids):
            engine.list_pods(objects, uids)
        case Upserted(pod):
            engine.observe_pod(pod)
        case Deleted(gone):
            engine.forget_pod(gone.uid)


def node_sink(engine: Engine, change: Change[GpuNode]) -> None:
    """Takes one change of the GPUNodes' reflector."""
    match change:
        case Replaced(objects):
            engine.replace_nodes(objects)
        case Upserted(node):
            engine.observe_node(node)
        case Deleted(gone):
            engine.forget_node(gone.name)


def held_lease_of(lease: wire.GpuLease) -> GpuLease:
    """The lease as the scheduler reads it: how far it has come, and in which words, is all the same to its room."""
    return gpu_lease_of(msgspec.structs.replace(lease, status=wire.GpuLeaseStatus()))


def lease_sink(engine: Engine, change: Change[GpuLease]) -> None:
    """Takes one change of the GPULeases' reflector."""
    match change:
        case Replaced(objects):
            engine.leases.replace(objects)
        case Upserted(lease):
            engine.leases.observe(lease)
        case Deleted(gone):
            engine.leases.forget(gone)


def namespace_sink(engine: Engine, change: Change[Namespace]) -> None:
    """Takes one change of the namespaces' reflector."""
    match change:
        case Replaced(objects):
            engine.replace_namespaces(objects)
        case Upserted(namespace):
            engine.observe_namespace(namespace)
        case Deleted(gone):
            engine.forget_namespace(gone.name)


def host_sink(engine: Engine, change: Change[Host]) -> None:
    """Takes one change of the Nodes' reflector; a heartbeat, which changes nothing of the host, ends here."""
    match change:
        case Replaced(objects):
            engine.replace_hosts(objects)
        case Upserted(host):
            engine.observe_host(host)
        case Deleted(gone):
            engine.forget_host(gone.name)
