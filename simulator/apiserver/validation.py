"""The validation that pods and pod templates meet, where this project's users can trip over it.

Wording and rules follow k8s.io/kubernetes/pkg/apis/core/validation (ValidateContainerResourceName,
validateContainerResourceRequirements, ValidatePodUpdate).
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tessera.kube import wire
from tessera.model.quantities import QuantityError, parse_quantity
from tessera.simulator.apiserver.answers import Refused, invalid
from tessera.simulator.apiserver.defaults import CONTAINER_LISTS, TEMPLATES, template_of
from tessera.simulator.apiserver.leases import lease_errors

Plain = dict[str, Any]
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MUTABLE_SPEC = ("activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds")


def check_shape(plural: str, kind: str, obj: Plain) -> None:
    """Raises ``Refused`` (400) where a list, an object or a text stands in another's place, as decoding would."""
    holder = obj if plural == "pods" else template_of(plural, obj)
    if holder is None:
        return
    try:
        msgspec.convert({"spec": _countless(holder.get("spec") or {})}, wire.Pod)
    except (msgspec.ValidationError, AttributeError) as error:
        where = ".".join(TEMPLATES.get(plural, ()))
        raise Refused(400, f"{kind} cannot be handled{f' in {where}' if where else ''}: {error}") from error


def _countless(spec: Any) -> Any:
    """Without nulls, and without the figures of limits and requests, which have a rule and an answer of their own."""
    if isinstance(spec, list):
        return [_countless(each) for each in spec]
    if not isinstance(spec, dict):
        return spec
    kept = {key: value for key, value in spec.items() if value is not None}
    return {k: {} if k in ("limits", "requests") and isinstance(v, dict) else _countless(v) for k, v in kept.items()}


def validate(plural: str, kind: str, obj: Plain, old: Plain | None) -> None:
    """Raises ``Refused`` (422) with all that is wrong."""
    name = obj["metadata"].get("name") or ""
    errors = list(_metadata(name))
    if plural == "pods":
        errors += _pod_spec(obj.get("spec") or {}, "spec")
        if old is not None:
            errors += _pod_update(obj, old)
    elif plural == "gpuleases":
        errors += lease_errors(obj.get("spec") or {}, (old.get("spec") or {}) if old is not None else None)
    elif (template := template_of(plural, obj)) is not None:
        errors += _pod_spec(template.get("spec") or {}, ".".join((*TEMPLATES[plural], "spec")))
        if plural == "jobs" and old is not None and template != template_of(plural, old):
            errors.append("spec.template: Invalid value: field is immutable")
    if errors:
        raise invalid(kind, name, errors)


def _metadata(name: str) -> Iterator[str]:
    if not name:
        yield "metadata.name: Required value: name or generateName is required"
    elif len(name) > 253 or not _NAME.fullmatch(name):
        yield f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case ' + (
            "alphanumeric characters, '-' or '.'"
        )


def _pod_spec(spec: Plain, where: str) -> Iterator[str]:
    if not spec.get("containers"):
        yield f"{where}.containers: Required value"
    names: set[str] = set()
    for field in CONTAINER_LISTS:
        for index, container in enumerate(spec.get(field) or ()):
            at = f"{where}.{field}[{index}]"
            name = container.get("name") or ""
            if not name:
                yield f"{at}.name: Required value"
            elif name in names:
                yield f'{at}.name: Duplicate value: "{name}"'
            names.add(name)
            yield from _resources(container.get("resources") or {}, f"{at}.resources")
    for part in ("limits", "requests"):
        for key in (spec.get("resources") or {}).get(part) or {}:
            if key not in ("cpu", "memory") and not key.startswith("hugepages-"):
                yield f'{where}.resources.{part}[{key}]: Unsupported value: "{key}": supported values: "cpu", "memory"'


def _resources(resources: Plain, at: str) -> Iterator[str]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, quantities in (("limits", limits), ("requests", requests)):
        for key, value in quantities.items():
            yield from _resource(key, value, f"{at}.{part}[{key}]")
    for key, value in requests.items():
        if key in _STANDARD:
            continue
        if key not in limits:
            yield f"{at}.limits: Required value: Limit must be set for non overcommitable resources"
        elif _value(value) != _value(limits[key]):
            yield f'{at}.requests: Invalid value: "{value}": must be equal to {key} limit of {limits[key]}'


def _resource(key: str, value: Any, at: str) -> Iterator[str]:
    if "/" not in key and key not in _STANDARD and not key.startswith("hugepages-"):
        yield f'{at}: Invalid value: "{key}": must be a standard resource type or fully qualified'
        yield f'{at}: Invalid value: "{key}": must be a standard resource for containers'
    number = _value(value)
    if number is None:
        yield f'{at}: Invalid value: "{value}": quantities must match the regular expression'
    elif number < 0:
        yield f'{at}: Invalid value: "{value}": must be greater than or equal to 0'
    elif "/" in key and number.denominator != 1:
        yield f'{at}: Invalid value: "{value}": must be an integer'


def _value(text: Any) -> Any:
    try:
        return parse_quantity(str(text))
    except QuantityError:
        return None


def _pod_update(obj: Plain, old: Plain) -> Iterator[str]:
    if _frozen(obj) != _frozen(old):
        yield "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`," + (
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)"
        )
    gates, before = ({g["name"] for g in (p["spec"].get("schedulingGates") or ())} for p in (obj, old))
    if gates - before:
        yield "spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate"


def _frozen(pod: Plain) -> Plain:
    spec = {key: value for key, value in pod["spec"].items() if key not in _MUTABLE_SPEC}
    for field in CONTAINER_LISTS:
        if field in spec:
            spec[field] = [{k: v for k, v in c.items() if k != "image"} for c in spec[field]]
    return spec
