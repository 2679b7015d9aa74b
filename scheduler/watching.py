"""Feeds the engine with what the API server says of pods and GPUs."""

from collections.abc import Iterable

from tessera.kube import wire
from tessera.kube.convert import gpu_node_of, pod_of
from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.model.demands import wants_slice
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine


def pod_sink(engine: Engine, change: Change[wire.Pod]) -> None:
    """Takes one change of the pods' reflector; pods without slices are none of the engine's business."""
    match change:
        case Replaced(objects):
            engine.replace_pods(_with_slices(objects))
        case Upserted(changed):
            pod = pod_of(changed)
            if wants_slice(pod):
                engine.observe_pod(pod)
        case Deleted(gone):
            engine.forget_pod(gone.metadata.uid)


def node_sink(engine: Engine, change: Change[wire.GpuNode]) -> None:
    """Takes one change of the GPUNodes' reflector."""
    match change:
        case Replaced(objects):
            engine.replace_nodes(gpu_node_of(each) for each in objects)
        case Upserted(changed):
            engine.observe_node(gpu_node_of(changed))
        case Deleted(gone):
            engine.forget_node(gone.metadata.name)


def _with_slices(objects: Iterable[wire.Pod]) -> Iterable[Pod]:
    return (pod for pod in map(pod_of, objects) if wants_slice(pod))
