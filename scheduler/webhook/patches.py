"""A JSON patch (RFC 6902) that grows beside a copy of the object it applies to."""

import copy
from collections.abc import Mapping
from typing import Any


class Patch:
    """Edits of a private copy, each written down as an operation. The object that was given is never changed."""

    def __init__(self, obj: Mapping[str, Any]) -> None:
        self._obj = copy.deepcopy(dict(obj))
        self.operations: list[dict[str, Any]] = []

    def at(self, path: tuple[str | int, ...]) -> dict[str, Any] | None:
        """The object at ``path`` as edited so far, or ``None`` if there is none."""
        node: Any = self._obj
        for step in path:
            inside = (isinstance(node, dict) and step in node) or (
                isinstance(node, list) and isinstance(step, int) and step < len(node)
            )
            if not inside:
                return None
            node = node[step]
        return node if isinstance(node, dict) else None

    def mapping(self, path: tuple[str | int, ...], wanted: Mapping[str, Any]) -> None:
        """Makes the object at ``path`` equal to ``wanted``, key by key; equal keys are not touched."""
        for key in [key for key in self.at(path) or {} if key not in wanted]:
            self.drop(path, key)
        for key, value in wanted.items():
            self.put(path, key, value)

    def put(self, path: tuple[str | int, ...], key: str, value: Any) -> None:
        """Sets one key of the object at ``path``, which must exist."""
        target = self.at(path)
        assert target is not None, path
        if key in target and type(target[key]) is type(value) and target[key] == value:
            return
        operation = "replace" if key in target else "add"
        target[key] = copy.deepcopy(value)
        self.operations.append({"op": operation, "path": pointer((*path, key)), "value": value})

    def drop(self, path: tuple[str | int, ...], key: str) -> None:
        """Removes one key of the object at ``path``."""
        target = self.at(path)
        assert target is not None, path
        del target[key]
        self.operations.append({"op": "remove", "path": pointer((*path, key))})


def pointer(path: tuple[str | int, ...]) -> str:
    """RFC 6901: ``/spec/containers/0/resources/limits/tessera.io~1gpu-mem``."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def applied(obj: Mapping[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """``obj`` with the patch applied: what the API server stores. Knows the operations that ``Patch`` writes."""
    out: dict[str, Any] = copy.deepcopy(dict(obj))
    for operation in operations:
        *steps, last = [s.replace("~1", "/").replace("~0", "~") for s in operation["path"].split("/")[1:]]
        node: Any = out
        for step in steps:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if operation["op"] == "remove":
            del node[last]
        else:
            node[last] = copy.deepcopy(operation["value"])
    return out
