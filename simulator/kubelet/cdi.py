"""The runtime's part of CDI: finds a device in the spec folders and applies its edits, after the pod's own settings.

Files that cannot be read are passed over, as the real library does; a name defined twice in one folder is defined
nowhere; a later folder outranks an earlier one.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

Plain = dict[str, Any]


class UnresolvableError(Exception):
    """No spec file defines the device."""


def resolve(folders: Sequence[Path], name: str) -> Plain:
    """The edits of a qualified name, ``vendor/class=device``: the device's and its file's. Raises
    ``UnresolvableError``. Blocking."""
    kind, _, device = name.partition("=")
    for folder in reversed(folders):
        found = [edits for path in _files(folder) for edits in _defined(path, kind, device)]
        if len(found) == 1:
            return found[0]
    raise UnresolvableError(f"unresolvable CDI devices {name}")


def apply(env: Iterable[tuple[str, str]], edits: Iterable[Plain]) -> tuple[dict[str, str], Plain]:
    """The container's environment after all edits, and its mounts, device nodes and hooks."""
    values = dict(env)
    joined: Plain = {"mounts": [], "deviceNodes": [], "hooks": []}
    for edit in edits:
        values.update((name, value) for name, _, value in (e.partition("=") for e in edit.get("env") or []))
        for key, items in joined.items():
            items.extend(edit.get(key) or [])
    return values, joined


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".json", ".yaml"))


def _defined(path: Path, kind: str, device: str) -> list[Plain]:
    try:
        text = path.read_text()
        spec = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if spec["kind"] != kind:
            return []
        edits = [found.get("containerEdits") or {} for found in spec["devices"] if found["name"] == device]
        return [_join(edit, spec.get("containerEdits") or {}) for edit in edits]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []


def _join(device: Plain, common: Plain) -> Plain:
    joined = dict(device)
    for key, value in common.items():
        joined[key] = [*joined.get(key, []), *value] if isinstance(value, list) else value
    return joined
