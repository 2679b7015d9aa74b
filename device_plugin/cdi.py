"""Composes the CDI spec of one slice. Pure.

NVIDIA's edits for the chosen GPUs come first, the agent's next, our own environment last: where two name the same
variable or path, the later one counts, and CDI edits come after the pod's own environment.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tessera.device_plugin.agent import Hook, Mount, Prepared
from tessera.device_plugin.nvidia import Edits, version_key
from tessera.device_plugin.slots import CDI_KIND
from tessera.model.assignment import Share

OLDEST_VERSION = "0.5.0"
INFO_PATH = "/run/tessera"
INFO_FILE = "slice.json"
LEASE_PATH = "/run/tessera/lease"
CLIENT_PATH = "/opt/tessera-client"
"""Where a container with a slice on another node has the client of the remote device."""
HOOK_S = 5
READ_ONLY = ("ro", "nosuid", "nodev", "noexec", "bind")


def compose(
    device: str, shares: Sequence[Share], prepared: Prepared, nvidia: Sequence[tuple[str, Edits]], info_dir: str
) -> dict[str, Any]:
    """The CDI spec with one device. ``info_dir``: the host's folder that holds the slice's ``slice.json``."""
    edits = merge([edit for _, edit in nvidia] + [_agents(prepared, info_dir)])
    env = [*edits.get("env", []), *(f"{k}={v}" for k, v in own_env(device, shares, composed=bool(nvidia)).items())]
    edits["env"] = _last_by_name(env)
    version = max([OLDEST_VERSION, *(version for version, _ in nvidia)], key=version_key)
    return _spec(version, device, edits)


def compose_leased(device: str, lease_dir: str, client_dir: str, python_path: str) -> dict[str, Any]:
    """The CDI spec of a slice on another node. The folders are the host's; ``python_path``: the container's own."""
    mounts = [Mount(lease_dir, LEASE_PATH, READ_ONLY), Mount(client_dir, CLIENT_PATH, READ_ONLY)]
    env = {
        "NVIDIA_VISIBLE_DEVICES": "void",
        "PYTHONPATH": ":".join(filter(None, (f"{CLIENT_PATH}/hook", python_path))),
        "TESSERA_ALIAS_CUDA": "1",
        "TESSERA_LEASE_DIR": LEASE_PATH,
        "TESSERA_REMOTE_HOME": f"{CLIENT_PATH}/tessera",
        "TESSERA_SLICE": device,
    }
    edits = {"env": [f"{name}={value}" for name, value in env.items()], "mounts": [_mount(mount) for mount in mounts]}
    return _spec(OLDEST_VERSION, device, edits)


def _spec(version: str, device: str, edits: Edits) -> dict[str, Any]:
    return {"cdiVersion": version, "kind": CDI_KIND, "devices": [{"name": device, "containerEdits": edits}]}


def own_env(device: str, shares: Sequence[Share], *, composed: bool) -> dict[str, str]:
    """The variables that name the slice. With NVIDIA's spec composed in, its legacy hook must add nothing: ``void``."""
    uuids = ",".join(share.uuid for share in shares)
    return {
        "CUDA_VISIBLE_DEVICES": uuids,
        "NVIDIA_VISIBLE_DEVICES": "void" if composed else uuids,
        "TESSERA_SLICE": device,
        "TESSERA_MEM_LIMIT_BYTES": ",".join(str(share.mem_bytes) for share in shares),
        "TESSERA_CORE_LIMIT_PERCENT": ",".join(str(share.core_percent) for share in shares),
    }


def slice_info(shares: Sequence[Share]) -> bytes:
    """What the container may read of its own slice, ``/run/tessera/slice.json``."""
    gpus = [{"uuid": s.uuid, "mem_bytes": s.mem_bytes, "core_percent": s.core_percent} for s in shares]
    return json.dumps({"version": 1, "gpus": gpus}).encode()


def merge(edits: Iterable[Edits]) -> dict[str, Any]:
    """Several ``containerEdits`` as one: lists joined without repeats, one device node a path, one mount a target."""
    merged: dict[str, Any] = {}
    for edit in edits:
        for key, value in edit.items():
            merged[key] = [*merged.get(key, []), *value] if isinstance(value, list) else value
    for key, value in merged.items():
        if isinstance(value, list):
            merged[key] = _without_repeats(key, value)
    return merged


_IDENTITY = {"deviceNodes": "path", "mounts": "containerPath"}


def _without_repeats(key: str, items: list[Any]) -> list[Any]:
    if key == "env":
        return _last_by_name(items)
    kept: dict[str, Any] = {}
    for item in items:
        name = item[_IDENTITY[key]] if key in _IDENTITY else json.dumps(item, sort_keys=True)
        kept.setdefault(name, item)
    return list(kept.values())


def _last_by_name(env: Iterable[str]) -> list[str]:
    values: dict[str, str] = {}
    for item in env:
        name, _, value = item.partition("=")
        values.pop(name, None)
        values[name] = value
    return [f"{name}={value}" for name, value in values.items()]


def _agents(prepared: Prepared, info_dir: str) -> Edits:
    mounts = list(prepared.mounts)
    if all(mount.container_path != INFO_PATH for mount in mounts):
        mounts.append(Mount(info_dir, INFO_PATH, READ_ONLY))
    edits: Edits = {"env": [f"{k}={v}" for k, v in _text(prepared.env).items()], "mounts": [_mount(m) for m in mounts]}
    return {**edits, "hooks": [_hook(hook) for hook in prepared.hooks]} if prepared.hooks else edits


def _hook(hook: Hook) -> dict[str, Any]:
    return {"hookName": "createRuntime", "path": hook.path, "args": list(hook.args), "timeout": HOOK_S}


def _mount(mount: Mount) -> dict[str, Any]:
    mounted = {"hostPath": mount.host_path, "containerPath": mount.container_path, "options": list(mount.options)}
    return {**mounted, "type": mount.type} if mount.type else mounted


def _text(env: Mapping[str, str]) -> dict[str, str]:
    return {name: env[name] for name in sorted(env)}
