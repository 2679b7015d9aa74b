"""NVIDIA's own CDI specs on this machine, as ``nvidia-ctk cdi generate`` writes them.

Device names are indices by default (``0``, ``1``, ``all``), UUIDs or ``gpu0`` by option; which one stands for which GPU
is taken from the driver's inventory, never guessed, and an index is believed only if the device node behind it is the
one that the driver gives that GPU: the file may be older than a GPU's loss, after which NVML counts anew. A MIG device
is taken by its UUID only: its index moves whenever instances come and go.

Keys stand in alphabetical order up to toolkit 1.17, with ``kind`` last; from 1.18 on in the order of the format, with
the driver's mounts last. The toolkit writes the file whole, but ``nvidia-ctk cdi generate > FILE`` does not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tessera.model.gpus import MIG_PREFIX

KIND = "nvidia.com/gpu"
ALL = "all"

_GPU_NODE = re.compile(r"/dev/nvidia\d+")
_INFORMATION = re.compile(r"^GPU UUID:\s+(GPU-\S+)$.*^Device Minor:\s+(\d+)\s*$", re.MULTILINE | re.DOTALL)

Edits = Mapping[str, Any]
"""A CDI ``containerEdits`` object as read."""


class CdiError(Exception):
    """A CDI file cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class NvidiaSpec:
    """One file: its version, its edits for every container, and those of each device."""

    path: str
    version: str
    edits: Edits
    devices: Mapping[str, Edits]


def load(folders: Sequence[Path]) -> list[NvidiaSpec]:
    """NVIDIA's specs in the folders, the most important folder (the last) first. Blocking.

    A file that calls itself ``nvidia*`` and cannot be read raises ``CdiError``; broken files of others do not
    concern us.
    """
    specs: list[NvidiaSpec] = []
    for folder in reversed(folders):
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in (p for p in paths if p.suffix in (".json", ".yaml", ".yml") and not p.name.startswith(".")):
            try:
                found = parse(str(path), path.read_bytes())
            except OSError as error:
                raise CdiError(f"{path}: {error.strerror}") from None
            except CdiError:
                if path.name.startswith("nvidia"):
                    raise
                continue
            if found:
                specs.append(found)
    return specs


def parse(path: str, data: bytes) -> NvidiaSpec | None:
    """One CDI file, or ``None`` if it is of another kind. Raises ``CdiError``."""
    spec = _document(path, data)
    if not isinstance(spec, dict) or not isinstance(spec.get("kind"), str):
        raise CdiError(f"{path}: kind: found none; allowed: a CDI spec such as {KIND}")
    if spec["kind"] != KIND:
        return None
    version, devices = spec.get("cdiVersion"), spec.get("devices")
    if not isinstance(version, str) or not _is_version(version):
        raise CdiError(f"{path}: cdiVersion: found {version!r}; allowed: a version such as 0.5.0")
    if not isinstance(devices, list) or not devices:
        raise CdiError(f"{path}: devices: found {devices!r}; allowed: a list (is the file cut off?)")
    if not spec.get("containerEdits"):
        raise CdiError(f"{path}: containerEdits: found none; allowed: the driver's files (is the file cut off?)")
    named = dict(_device(path, number, device) for number, device in enumerate(devices))
    edits = _edits(path, "containerEdits", spec["containerEdits"])
    if not path.endswith(".json") and list(spec)[-1] == "containerEdits" and not _mounts_the_driver(edits):
        raise CdiError(
            f"{path}: containerEdits.mounts: found no libcuda.so; allowed: the driver's (is the file cut off?)"
        )
    return NvidiaSpec(path, version, edits, named)


def minors(proc: Path) -> dict[str, int]:
    """The minor number of the device node of each UUID, as the kernel's driver tells it; empty where it does not.
    Blocking."""
    found: dict[str, int] = {}
    for path in (proc / "driver/nvidia/gpus").glob("*/information"):
        try:
            match = _INFORMATION.search(path.read_text(errors="replace"))
        except OSError:
            continue  # the GPU left while we looked
        if match:
            found[match.group(1)] = int(match.group(2))
    return found


def edits_for(
    specs: Sequence[NvidiaSpec], gpus: Mapping[str, int], chosen: Sequence[str], minors: Mapping[str, int] | None = None
) -> list[tuple[str, Edits]]:
    """The edits for the chosen UUIDs, each with its spec's version: the devices' first, then the files' own.

    ``gpus``: all of the node's UUIDs with their index. ``minors``: of their device nodes, as far as known. Raises
    ``CdiError`` if a GPU is named in no file, or the file means another by that name.
    """
    used: list[NvidiaSpec] = []
    edits: list[tuple[str, Edits]] = []
    for uuid in chosen:
        spec, name = _find(specs, _names(uuid, gpus), uuid, alone=len(gpus) == 1 and not _is_mig(uuid))
        _same_gpu(spec, name, uuid, (minors or {}).get(uuid))
        edits.append((spec.version, spec.devices[name]))
        if spec not in used:
            used.append(spec)
    return edits + [(spec.version, spec.edits) for spec in used]


def version_key(version: str) -> tuple[int, ...]:
    """Orders versions by their numbers."""
    return tuple(int(part) for part in version.split("."))


def _names(uuid: str, gpus: Mapping[str, int]) -> list[str]:
    return [uuid] if _is_mig(uuid) else [uuid, str(gpus[uuid]), f"gpu{gpus[uuid]}"]


def _is_mig(uuid: str) -> bool:
    return uuid.startswith(MIG_PREFIX)


def _find(specs: Sequence[NvidiaSpec], names: Sequence[str], uuid: str, *, alone: bool) -> tuple[NvidiaSpec, str]:
    for name in names:
        for spec in specs:
            if name in spec.devices:
                return spec, name
    # WSL has one device for everything. It stands for a GPU only where there is but one; beside others, as in MIG
    # mode, it stands for all of them together.
    for spec in specs:
        if alone and list(spec.devices) == [ALL]:
            return spec, ALL
    found = sorted({name for spec in specs for name in spec.devices})
    files = ", ".join(spec.path for spec in specs)
    raise CdiError(f"{files}: found devices {found}; allowed: one named {' or '.join(names)} for GPU {uuid}")


def _same_gpu(spec: NvidiaSpec, name: str, uuid: str, minor: int | None) -> None:
    """Raises ``CdiError`` if the device has a GPU's node, and not this GPU's."""
    paths = [str(node["path"]) for node in spec.devices[name].get("deviceNodes") or []]
    nodes = [path for path in paths if _GPU_NODE.fullmatch(path)]
    if minor is not None and nodes and nodes != [f"/dev/nvidia{minor}"]:
        found = f"found device {name!r} with {', '.join(nodes)}; allowed: /dev/nvidia{minor}, the node of GPU {uuid}"
        raise CdiError(f"{spec.path}: {found} (run nvidia-ctk cdi generate again)")


def _mounts_the_driver(edits: Edits) -> bool:
    return any("/libcuda.so" in str(mount["containerPath"]) for mount in edits.get("mounts") or [])


def _document(path: str, data: bytes) -> object:
    if not path.endswith(".json") and not data.endswith(b"\n"):
        raise CdiError(f"{path}: found no end of line at its end; allowed: a whole file (is it cut off?)")
    try:
        if path.endswith(".json"):
            return msgspec.json.decode(data)
        return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CdiError(f"{path}: malformed CDI file: {' '.join(str(error).split())}") from None


def _device(path: str, number: int, device: object) -> tuple[str, Edits]:
    name = device.get("name") if isinstance(device, dict) else None
    if not isinstance(device, dict) or not isinstance(name, str):
        raise CdiError(f"{path}: devices[{number}].name: found {name!r}; allowed: a device's name")
    return name, _edits(path, f"devices[{number}].containerEdits", device.get("containerEdits"))


def _edits(path: str, field: str, edits: object) -> Edits:
    if edits is None:
        return {}
    if not isinstance(edits, dict):
        raise CdiError(f"{path}: {field}: found {edits!r}; allowed: an object")
    for key, entry in (("deviceNodes", "path"), ("mounts", "containerPath"), ("hooks", "hookName")):
        items = edits.get(key) or []
        if not isinstance(items, list) or any(not isinstance(i, dict) or not i.get(entry) for i in items):
            raise CdiError(f"{path}: {field}.{key}: found an entry without {entry} (is the file cut off?)")
    for mount in edits.get("mounts") or []:
        if mount.get("type") != "bind" and not {"bind", "rbind"} & set(mount.get("options") or []):
            where = f"found none on {mount['containerPath']}; allowed: bind or rbind among them"
            raise CdiError(f"{path}: {field}.mounts.options: {where} (is the file cut off?)")
    env = edits.get("env") or []
    if not isinstance(env, list) or any(not isinstance(e, str) or "=" not in e for e in env):
        raise CdiError(f"{path}: {field}.env: found {env!r}; allowed: a list of NAME=value")
    return edits


def _is_version(version: str) -> bool:
    return all(part.isdigit() for part in version.split("."))
