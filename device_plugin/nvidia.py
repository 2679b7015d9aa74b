"""NVIDIA's own CDI specs on this machine, as ``nvidia-ctk cdi generate`` writes them.

Device names are indices by default (``0``, ``1``, ``all``), UUIDs or ``gpu0`` by option; which one stands for which GPU
is taken from the driver's inventory, never guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

KIND = "nvidia.com/gpu"
ALL = "all"

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
    return NvidiaSpec(path, version, _edits(path, "containerEdits", spec["containerEdits"]), named)


def edits_for(specs: Sequence[NvidiaSpec], gpus: Mapping[str, int], chosen: Sequence[str]) -> list[tuple[str, Edits]]:
    """The edits for the chosen UUIDs, each with its spec's version: the devices' first, then the files' own.

    ``gpus``: all of the node's UUIDs with their index. Raises ``CdiError`` if a GPU is named in no file.
    """
    used: list[NvidiaSpec] = []
    edits: list[tuple[str, Edits]] = []
    for uuid in chosen:
        spec, name = _find(specs, _names(uuid, gpus), uuid)
        edits.append((spec.version, spec.devices[name]))
        if spec not in used:
            used.append(spec)
    return edits + [(spec.version, spec.edits) for spec in used]


def version_key(version: str) -> tuple[int, ...]:
    """Orders versions by their numbers."""
    return tuple(int(part) for part in version.split("."))


def _names(uuid: str, gpus: Mapping[str, int]) -> list[str]:
    names = [uuid, str(gpus[uuid]), f"gpu{gpus[uuid]}"]
    # WSL has one device for everything. It stands for a GPU only where there is but one.
    return [*names, ALL] if len(gpus) == 1 else names


def _find(specs: Iterable[NvidiaSpec], names: Iterable[str], uuid: str) -> tuple[NvidiaSpec, str]:
    names = list(names)
    for name in names:
        for spec in specs:
            if name in spec.devices:
                return spec, name
    found = sorted({name for spec in specs for name in spec.devices})
    files = ", ".join(spec.path for spec in specs)
    raise CdiError(f"{files}: found devices {found}; allowed: one named {' or '.join(names)} for GPU {uuid}")


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
    env = edits.get("env") or []
    if not isinstance(env, list) or any(not isinstance(e, str) or "=" not in e for e in env):
        raise CdiError(f"{path}: {field}.env: found {env!r}; allowed: a list of NAME=value")
    return edits


def _is_version(version: str) -> bool:
    return all(part.isdigit() for part in version.split("."))
