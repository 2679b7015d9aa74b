"""What pods expect of /dev/shm, and how large one must be that they share. Pure.

A volume of the pod's own there gives way to the group's, so its size is added. One without ``sizeLimit`` could grow to
the memory limit, as with the kubelet: of the pod if there is one, else of the container.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from tessera.kube import wire
from tessera.model.quantities import QuantityError, parse_up

SHM = "/dev/shm"


@dataclass(frozen=True, slots=True)
class OwnShm:
    """A memory-backed emptyDir of a pod at a container's /dev/shm. ``size_bytes`` is 0 where nothing limits it."""

    pod_uid: str
    volume: str
    size_bytes: int


def own_shm(pod: wire.Pod, container: str) -> OwnShm | None:
    """What the pod gives a container at /dev/shm; ``None``: nothing of memory."""
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    found = next((one for one in containers if one.name == container), None)
    if found is None:
        return None
    names = [mount.name for mount in found.volume_mounts if posixpath.normpath(mount.mount_path) == SHM]
    for volume in pod.spec.volumes:
        if volume.name in names and volume.empty_dir and volume.empty_dir.medium == "Memory":
            return OwnShm(pod.metadata.uid, volume.name, _size(volume.empty_dir, pod, found))
    return None


def size_for(base: int, own: Iterable[OwnShm]) -> int:
    """Bytes: a volume that several containers of a pod have counts once."""
    return base + sum(one.size_bytes for one in set(own))


def _size(given: wire.EmptyDir, pod: wire.Pod, container: wire.Container) -> int:
    limit = _bytes(given.size_limit)
    of_pod = pod.spec.resources.limits.get("memory") if pod.spec.resources else None
    return limit or _bytes(of_pod) or _bytes(container.resources.limits.get("memory"))


def _bytes(quantity: wire.Quantity | None) -> int:
    try:
        return max(parse_up(quantity), 0) if quantity is not None else 0
    except QuantityError:
        return 0
