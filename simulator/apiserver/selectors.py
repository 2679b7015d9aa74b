"""Label and field selectors, as predicates over plain objects."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tessera.simulator.apiserver.answers import Refused

Plain = dict[str, Any]
Predicate = Callable[[Plain], bool]
_SET = re.compile(r"\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^)]*)\)\s*")
_SPLIT = re.compile(r",(?![^(]*\))")
_FIELDS: dict[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.client.node": ("spec", "client", "node"),
    "spec.nodeName": ("spec", "nodeName"),
    "spec.schedulerName": ("spec", "schedulerName"),
    "spec.unschedulable": ("spec", "unschedulable"),
    "status.phase": ("status", "phase"),
    "involvedObject.name": ("involvedObject", "name"),
    "involvedObject.namespace": ("involvedObject", "namespace"),
    "involvedObject.uid": ("involvedObject", "uid"),
    "involvedObject.kind": ("involvedObject", "kind"),
    "reason": ("reason",),
    "type": ("type",),
}


def selecting(labels: str, fields: str) -> Predicate:
    """Both selectors at once; raises ``Refused`` for a form that the API server would not take either."""
    terms = [_label_term(text) for text in _SPLIT.split(labels) if text.strip()]
    terms += [_field_term(text) for text in fields.split(",") if text.strip()]
    return lambda obj: all(term(obj) for term in terms)


def _labels(obj: Plain) -> Mapping[str, str]:
    return obj.get("metadata", {}).get("labels") or {}


def _label_term(text: str) -> Predicate:
    if match := _SET.fullmatch(text):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if operator == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    for operator in ("!=", "==", "="):
        if operator in text:
            key, value = (part.strip() for part in text.split(operator, 1))
            if operator == "!=":
                return lambda obj: _labels(obj).get(key) != value
            return lambda obj: _labels(obj).get(key) == value
    key = text.strip()
    if key.startswith("!"):
        return lambda obj: key[1:].strip() not in _labels(obj)
    return lambda obj: key in _labels(obj)


def _field_term(text: str) -> Predicate:
    operator = next((operator for operator in ("!=", "==", "=") if operator in text), None)
    if operator is None:
        raise Refused(400, f"invalid field selector: {text!r}")
    name, value = (part.strip() for part in text.split(operator, 1))
    if name not in _FIELDS:
        raise Refused(400, f"field label not supported: {name}")
    path = _FIELDS[name]
    if operator == "!=":
        return lambda obj: _field(obj, path) != value
    return lambda obj: _field(obj, path) == value


def _field(obj: Plain, path: tuple[str, ...]) -> str:
    found: Any = obj
    for step in path:
        found = (found or {}).get(step)
    if isinstance(found, bool):
        return str(found).lower()
    return "" if found is None else str(found)
