"""What the pods of this node give their containers at /dev/shm, as the API server has them."""

from tessera.kube import wire
from tessera.kube.course import Change, Deleted, Replaced, Upserted
from tessera.node_agent.enforcement.shm_group import PodUnknown
from tessera.node_agent.enforcement.shm_sizes import OwnShm, own_shm


class PodShm:
    """A sink for a reflector of pods."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, OwnShm]] = {}

    def __call__(self, change: Change[wire.Pod]) -> None:
        match change:
            case Replaced(pods):
                self._pods = {pod.metadata.uid: _own(pod) for pod in pods}
            case Upserted(pod):
                self._pods[pod.metadata.uid] = _own(pod)
            case Deleted(pod):
                self._pods.pop(pod.metadata.uid, None)

    def of(self, pod_uid: str, container: str) -> OwnShm | None:
        """Raises ``PodUnknown``."""
        try:
            return self._pods[pod_uid].get(container)
        except KeyError:
            raise PodUnknown(pod_uid) from None


def _own(pod: wire.Pod) -> dict[str, OwnShm]:
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    found = {container.name: own_shm(pod, container.name) for container in containers}
    return {name: own for name, own in found.items() if own}
