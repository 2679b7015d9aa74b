"""Between the wire and the model: the one place where the two meet."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from tessera.kube import wire
from tessera.model.gpus import Gpu, GpuNode, Health
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import format_bytes


def pod_of(pod: wire.Pod) -> Pod:
    """What the scheduler reads of a pod."""
    spec = pod.spec
    return Pod(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        containers=tuple(_containers(spec)),
        annotations=pod.metadata.annotations,
        node=spec.node_name,
        phase=pod.status.phase,
        deleting=pod.metadata.deletion_timestamp is not None,
        priority=spec.priority or 0,
        may_preempt=spec.preemption_policy != "Never",
        scheduler=spec.scheduler_name,
        resources=_texts(spec.resources.limits, spec.resources.requests) if spec.resources else {},
    )


def pod_reference(pod: Pod) -> wire.ObjectReference:
    """The pod as an event's subject."""
    return wire.ObjectReference(api_version="v1", kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)


def _containers(spec: wire.PodSpec) -> Iterable[ContainerSpec]:
    for container in spec.init_containers:
        kind = Kind.SIDECAR if container.restart_policy == "Always" else Kind.INIT
        yield _container(container, "spec.initContainers", kind)
    for container in spec.containers:
        yield _container(container, "spec.containers", Kind.APP)
    for container in spec.ephemeral_containers:
        yield _container(container, "spec.ephemeralContainers", Kind.EPHEMERAL)


def _container(container: wire.Container, where: str, kind: Kind) -> ContainerSpec:
    resources, field = container.resources, f"{where}[{container.name}]"
    return ContainerSpec(container.name, field, kind, _texts(resources.limits), _texts(resources.requests))


def _texts(*maps: Mapping[str, wire.Quantity]) -> dict[str, str]:
    return {key: str(value) for quantities in maps for key, value in quantities.items()}


def gpu_node_of(node: wire.GpuNode) -> GpuNode:
    """The GPUs that a node has published, in the driver's order."""
    return GpuNode(node.metadata.name, tuple(_gpu(gpu) for gpu in node.status.gpus))


def _gpu(gpu: wire.GpuStatus) -> Gpu:
    return Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        mem_bytes=gpu.memory_bytes,
        total_bytes=gpu.memory_total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        nvlink_peers=tuple(gpu.nvlink_peers),
        health=Health(gpu.health.state == "Healthy", gpu.health.reason),
        level=gpu.enforcement_level,
    )


def gpu_node_object(node: GpuNode, allocated: Mapping[str, int], observed_at: datetime) -> wire.GpuNode:
    """The GPUNode that says ``node``; ``allocated`` holds bytes given by GPU UUID, absent ones are free.

    To be applied to the object and then to its ``status``: the API server takes each half from its own request.
    """
    gpus = [_gpu_status(gpu, allocated.get(gpu.uuid, 0)) for gpu in node.gpus]
    total = sum(gpu.memory_bytes for gpu in gpus)
    given = sum(gpu.allocated_bytes for gpu in gpus)
    status = wire.GpuNodeStatus(
        gpus=gpus,
        model=", ".join(dict.fromkeys(gpu.model for gpu in gpus)),
        gpu_count=len(gpus),
        memory_total=format_bytes(total),
        memory_allocated=format_bytes(given),
        memory_free=format_bytes(max(total - given, 0)),
        enforcement_level=min((gpu.enforcement_level for gpu in gpus), default=0),
        health=_health_text(node.gpus),
        observed_at=observed_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return wire.GpuNode(metadata=wire.ObjectMeta(name=node.name), status=status)


def _gpu_status(gpu: Gpu, allocated_bytes: int) -> wire.GpuStatus:
    return wire.GpuStatus(
        uuid=gpu.uuid,
        model=gpu.model,
        memory_bytes=gpu.mem_bytes,
        memory_total_bytes=gpu.total_bytes,
        sm_count=gpu.sm_count,
        compute_capability=gpu.compute_capability,
        numa_node=gpu.numa_node,
        nvlink_peers=list(gpu.nvlink_peers),
        health=wire.GpuHealth(state="Healthy" if gpu.health.healthy else "Unhealthy", reason=gpu.health.reason),
        enforcement_level=gpu.level,
        allocated_bytes=allocated_bytes,
    )


def _health_text(gpus: tuple[Gpu, ...]) -> str:
    """``Healthy``, or how many are not and the first reason."""
    sick = [gpu for gpu in gpus if not gpu.health.healthy]
    if not sick:
        return "Healthy"
    return f"{len(sick)} of {len(gpus)} unhealthy: {sick[0].health.reason}"
