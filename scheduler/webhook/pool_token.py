"""The token by which a container with a slice on another node proves to the pool whose it is.

A projected volume of the pod's own service account, for the pool alone, bound to the pod and renewed by the kubelet.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tessera.model import names
from tessera.model.placements import Remote
from tessera.scheduler.webhook.patches import Patch

VOLUME = "tessera-pool-token"
MOUNT_PATH = "/var/run/secrets/tessera"
_PATH = "token"
_LIFE_S = 3600


def may_be_remote(annotations: Mapping[str, Any]) -> bool:
    """Whether a pod with ``annotations`` may have its slices on other nodes."""
    return annotations.get(names.REMOTE) in (Remote.ALLOWED, Remote.REQUIRED)


def add_token(patch: Patch, spec: tuple[str | int, ...], containers: Iterable[tuple[str | int, ...]]) -> None:
    """Adds the volume to the pod's ``spec`` and mounts it in ``containers``, unless they have it."""
    token = {"audience": names.POOL_AUDIENCE, "expirationSeconds": _LIFE_S, "path": _PATH}
    volume = {"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}
    _add(patch, spec, "volumes", volume, "name")
    for container in containers:
        mount = {"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}
        _add(patch, container, "volumeMounts", mount, "mountPath")


def _add(patch: Patch, path: tuple[str | int, ...], key: str, entry: dict[str, Any], unique: str) -> None:
    """To the list ``key`` at ``path``, where no other entry has the same ``unique``."""
    found = (patch.at(path) or {}).get(key) or []
    if not any(isinstance(each, Mapping) and each.get(unique) == entry[unique] for each in found):
        patch.put(path, key, [*found, entry])
