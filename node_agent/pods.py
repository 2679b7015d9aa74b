"""The names of this node's containers, by their ids, as the kubelet reports them in the pods' status."""

from tessera.kube import wire
from tessera.kube.course import Change, Deleted, Replaced, Upserted
from tessera.node_agent.cgroups import Container

_REMEMBERED = 64
"""Container ids kept of one pod, over its restarts."""


class ContainerNames:
    """A sink for a reflector of pods. A container whose name is not reported yet is unknown."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}

    def __call__(self, change: Change[wire.Pod]) -> None:
        match change:
            case Replaced(pods):
                self._names = {pod.metadata.uid: _names(pod) for pod in pods}
            case Upserted(pod):
                # Restarts change the id; the former one is kept, its processes may still be there.
                before = self._names.get(pod.metadata.uid, {})
                merged = {**before, **_names(pod)}
                self._names[pod.metadata.uid] = dict(list(merged.items())[-_REMEMBERED:])
            case Deleted(pod):
                self._names.pop(pod.metadata.uid, None)

    def name_of(self, container: Container) -> str | None:
        return self._names.get(container.pod_uid, {}).get(container.container_id)


def _names(pod: wire.Pod) -> dict[str, str]:
    statuses = [*(pod.status.container_statuses or []), *(pod.status.init_container_statuses or [])]
    return {s.container_id.rpartition("//")[2]: s.name for s in statuses if s.container_id}
