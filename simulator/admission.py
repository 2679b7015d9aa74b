"""Admission in the embedded cluster: which objects meet the webhook, and the chart's policies as validators.

The rules of a slice request are ``tessera.model.demands``' own; the guards are those of the chart's
ValidatingAdmissionPolicies, which are CEL and cannot run here. A refusal is one sentence.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.model import names
from tessera.model.demands import demand_of, wants_slice
from tessera.reasons import Reason
from tessera.simulator.apiserver import Request, Validator
from tessera.simulator.apiserver.defaults import template_of

Plain = dict[str, Any]


def needs_rewriting(request: Request) -> bool:
    """Whether the webhook's matchConditions let the object through to it."""
    if request.object is None or request.subresource:
        return False
    made = any(owner.get("controller") for owner in request.object["metadata"].get("ownerReferences") or ())
    spec = _pod_spec(request)
    if spec is None or (made and request.plural != "pods"):
        return False
    return any(_ours(key) for key in _keys(spec))


def slice_rules(request: Request) -> str | None:
    """Refuses malformed slice requests, and pods that step around the scheduler or the limits."""
    spec = _pod_spec(request)
    if spec is None or request.object is None or request.subresource not in ("", "ephemeralcontainers"):
        return None
    if not any(_ours(key) for key in _keys(spec)) or _unchanged(request):
        return None
    where = "" if request.plural == "pods" else "spec.template."
    holder = request.object if not where else template_of(request.plural, request.object) or {}
    try:
        pod = pod_of(msgspec.convert({"metadata": holder.get("metadata") or {}, "spec": spec}, wire.Pod))
    except msgspec.ValidationError as error:
        return f"{where}spec: {error}"
    found = demand_of(pod)
    if isinstance(found, Reason):
        return f"{where}{found.text}" if found.text.startswith("spec.") else found.text
    if not wants_slice(pod):
        return None
    return _reserved(spec, where) or (None if where or request.operation != "CREATE" else _around(spec))


def annotation_guard(writers: Collection[str]) -> Validator:
    """Only ``writers`` put the system's annotations on pods, and only with a Binding; unchanged ones pass."""

    def guard(request: Request) -> str | None:
        if request.plural != "pods" or request.object is None or request.operation == "DELETE":
            return None
        if request.subresource == "binding" and request.user in writers:
            return None
        after, before = _annotations(request.object), _annotations(request.old or {})
        for key in sorted(after.keys() | before.keys()):
            if _reserved_annotation(key) and after.get(key) != before.get(key):
                allowed = "only what the scheduler writes when it binds the pod"
                found = f"a value from {request.user}" if key in after else f"removed by {request.user}"
                return f"metadata.annotations[{key}]: found {found}; allowed: {allowed}"
        return None

    return guard


def _around(spec: Plain) -> str | None:
    if spec.get("nodeName"):
        return f"spec.nodeName: found {spec['nodeName']!r}; allowed: none, a slice is placed by the scheduler"
    if spec.get("schedulerName") != names.SCHEDULER:
        return f"spec.schedulerName: found {spec.get('schedulerName')!r}; allowed: {names.SCHEDULER!r} for a slice"
    return None


def _reserved(spec: Plain, where: str) -> str | None:
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            for variable in container.get("env") or ():
                name = variable["name"]
                if name in names.RESERVED_ENV or name.startswith(names.RESERVED_ENV_PREFIX):
                    path = f"{where}spec.{field}[{index}].env[{name}]"
                    return f"{path}: found in a pod with a slice; allowed: none, Tessera sets it"
    return None


def _unchanged(request: Request) -> bool:
    """An update is judged only by the annotations and containers that it changes."""
    if request.operation != "UPDATE" or request.old is None or not request.object:
        return False
    if request.plural == "pods" and request.subresource:
        return False
    same = request.object.get("spec") == request.old.get("spec")
    return same and _annotations(request.object) == _annotations(request.old)


def _pod_spec(request: Request) -> Plain | None:
    if request.object is None:
        return None
    if request.plural == "pods":
        return request.object.get("spec") if request.subresource in ("", "ephemeralcontainers") else None
    template = template_of(request.plural, request.object)
    return template.get("spec") if template else None


def _keys(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _resources(container)
    yield from _resources(spec)


def _resources(holder: Mapping[str, Any]) -> Iterator[str]:
    resources = holder.get("resources") or {}
    for part in ("limits", "requests"):
        yield from resources.get(part) or {}


def _ours(key: str) -> bool:
    return key in names.SHORT_KEYS or key.startswith(f"{names.DOMAIN}/")


def _reserved_annotation(key: str) -> bool:
    return key == names.ASSIGNMENT or key.startswith(names.STATE_PREFIX)


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
