"""Patches of objects: merge (RFC 7386), JSON patch (RFC 6902), strategic merge and apply, both simplified.

Strategic merge joins lists of named things by their key as the real one does for containers, env and conditions.
Apply merges maps, replaces lists, and takes away what the same manager had applied before and does not any more.
"""

import copy
from typing import Any

from tessera.simulator.apiserver.answers import Refused

Plain = dict[str, Any]
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "conditions": "type",
    "ownerReferences": "uid",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
}


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def strategic(target: Any, patch: Any, field: str = "") -> Any:
    """Like ``merge``, with lists of named things joined by name."""
    if isinstance(patch, list) and isinstance(target, list) and field in _MERGE_KEYS:
        return _join(target, patch, _MERGE_KEYS[field])
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key == "$setElementOrder" or key.startswith("$setElementOrder/"):
            continue
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = strategic(merged.get(key), value, key)
    return merged


def _join(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    joined = {item.get(key): item for item in target if isinstance(item, dict)}
    for item in patch:
        if item.get("$patch") == "delete":
            joined.pop(item.get(key), None)
        else:
            joined[item.get(key)] = strategic(joined.get(item.get(key)), item)
    return list(joined.values())


def apply(target: Plain, applied: Plain, before: Plain | None) -> Plain:
    """``target`` with ``applied`` merged in, less what was in ``before`` (the manager's last) and is not any more."""
    pruned = _prune(target, before, applied) if before else target
    return _overlay(pruned, applied)


def _prune(target: Plain, before: Plain, applied: Plain) -> Plain:
    out = dict(target)
    for key, value in before.items():
        if key not in applied:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(applied[key], dict) and isinstance(out.get(key), dict):
            out[key] = _prune(out[key], value, applied[key])
    return out


def _overlay(target: Plain, applied: Plain) -> Plain:
    out = dict(target)
    for key, value in applied.items():
        below = out.get(key)
        out[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def json_patch(target: Plain, operations: list[Plain]) -> Plain:
    """RFC 6902; a failed operation is a 422, as the API server answers."""
    document: Any = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refused(422, f"the server rejected our request due to an error in our request: {error!r}") from error
    if not isinstance(document, dict):
        raise Refused(422, "the patch leaves no object")
    return document


def _operate(document: Any, operation: Plain) -> Any:
    kind, path = operation["op"], _pointer(operation["path"])
    if kind == "test":
        if _look(document, path) != operation["value"]:
            raise ValueError(f"testing value {operation['path']} failed")
        return document
    if kind in ("move", "copy"):
        source = _pointer(operation["from"])
        value = copy.deepcopy(_look(document, source))
        document = _remove(document, source) if kind == "move" else document
        return _add(document, path, value)
    if kind == "remove":
        return _remove(document, path)
    if kind == "replace":
        _look(document, path)
        return _replace(document, path, operation["value"])
    if kind == "add":
        return _add(document, path, operation["value"])
    raise ValueError(f"unknown operation {kind!r}")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"not a JSON pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _step(node: Any, part: str) -> Any:
    return node[int(part)] if isinstance(node, list) else node[part]


def _look(document: Any, path: list[str]) -> Any:
    for part in path:
        document = _step(document, part)
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _look(document, path[:-1])
    if isinstance(parent, list):
        index = len(parent) if path[-1] == "-" else int(path[-1])
        if not 0 <= index <= len(parent):
            raise IndexError(path[-1])
        parent.insert(index, value)
    else:
        parent[path[-1]] = value
    return document


def _replace(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _look(document, path[:-1])
    if isinstance(parent, list):
        parent[int(path[-1])] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    parent = _look(document, path[:-1])
    if isinstance(parent, list):
        parent.pop(int(path[-1]))
    else:
        del parent[path[-1]]
    return document
