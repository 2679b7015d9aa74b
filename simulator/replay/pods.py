"""The trace's nodes and pods as the engine sees them."""

from dataclasses import replace

from tessera.model import names
from tessera.model.gpus import LEVEL_WATCH, Gpu, GpuNode
from tessera.model.hosts import Host, HostNeed
from tessera.model.pods import ContainerSpec, Pod
from tessera.model.quantities import MIB
from tessera.simulator.replay.openb import WHOLE, Shape, TraceNode

NAMESPACE = "trace"
_FIELD = "spec.containers[main]"


def gpu_node_of(node: TraceNode) -> GpuNode:
    """The GPUs of a host, all alike."""
    size = node.gpu_mem_mib * MIB
    return GpuNode(
        node.name,
        tuple(Gpu(f"{node.name}-gpu-{index}", node.model, size, size, level=LEVEL_WATCH) for index in range(node.gpus)),
    )


def host_of(node: TraceNode) -> Host:
    """CPU and memory of a host, all of it for pods."""
    return Host(node.name, node.cpu_milli, node.memory_mib * MIB)


class Templates:
    """Pods by shape: built once for each, then only named."""

    def __init__(self) -> None:
        self._pods: dict[Shape, Pod] = {}

    def pod(self, shape: Shape, uid: str) -> Pod:
        """A new pod of ``shape``."""
        template = self._pods.get(shape)
        if template is None:
            template = self._pods[shape] = pod_of(shape)
        return replace(template, uid=uid, name=uid)


def pod_of(shape: Shape) -> Pod:
    """A pod without name and UID that asks for ``shape``, as the webhook would have stored it."""
    requests = {"cpu": f"{shape.cpu_milli}m", "memory": f"{shape.memory_mib}Mi"}
    container = ContainerSpec("main", _FIELD, limits=_limits(shape), requests=requests)
    annotations = {names.GPU_MODEL: ",".join(shape.models)} if shape.models else {}
    need = HostNeed(shape.cpu_milli, shape.memory_mib * MIB)
    return Pod(NAMESPACE, "", "", (container,), annotations, scheduler=names.SCHEDULER, host=need)


def _limits(shape: Shape) -> dict[str, str]:
    if not shape.num_gpu:
        return {}
    if shape.gpu_milli == WHOLE:
        return {names.GPU: str(shape.num_gpu), names.SLICE: "1"}
    limits = {names.GPU_CORE: str(shape.milli // 10), names.SLICE: "1"}
    if shape.num_gpu > 1:
        limits[names.GPU_COUNT] = str(shape.num_gpu)
    if shape.gpu_mem_mib:
        limits[names.GPU_MEM] = f"{shape.num_gpu * shape.gpu_mem_mib}Mi"
    return limits
