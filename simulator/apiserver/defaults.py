"""What the API server fills in before admission: the few defaults that this project's code can see."""

from typing import Any

Plain = dict[str, Any]
TEMPLATES: dict[str, tuple[str, ...]] = {
    "deployments": ("spec", "template"),
    "replicasets": ("spec", "template"),
    "statefulsets": ("spec", "template"),
    "daemonsets": ("spec", "template"),
    "jobs": ("spec", "template"),
    "cronjobs": ("spec", "jobTemplate", "spec", "template"),
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
}
"""Where a pod template stands in each kind of workload."""
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def template_of(plural: str, obj: Plain) -> Plain | None:
    """The pod template within a workload."""
    found: Any = obj
    for step in TEMPLATES.get(plural, ("",)):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def defaulted(plural: str, obj: Plain) -> Plain:
    """``obj`` with defaults; parts that need none are shared with the input."""
    if plural == "pods":
        return {**obj, "spec": _pod_spec(obj.get("spec") or {}, requests_from_limits=True)}
    if template_of(plural, obj) is not None:
        return _with_template(obj, TEMPLATES[plural])
    return obj


def _with_template(obj: Plain, path: tuple[str, ...]) -> Plain:
    if not path:
        return {**obj, "spec": _pod_spec(obj.get("spec") or {}, requests_from_limits=False)}
    return {**obj, path[0]: _with_template(obj[path[0]], path[1:])}


def _pod_spec(spec: Plain, *, requests_from_limits: bool) -> Plain:
    out = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        **{key: value for key, value in spec.items() if value is not None},
    }
    for field in CONTAINER_LISTS:
        if isinstance(out.get(field), list):
            out[field] = [_container(c, requests_from_limits) for c in out[field]]
    if not out["schedulerName"]:
        out["schedulerName"] = "default-scheduler"
    return out


def _container(container: Plain, requests_from_limits: bool) -> Plain:
    if not isinstance(container, dict):
        return container
    resources = dict(container.get("resources") or {})
    limits, requests = _texts(resources.get("limits")), _texts(resources.get("requests"))
    if requests_from_limits:
        requests = {**limits, **requests}
    resources |= {key: value for key, value in (("limits", limits), ("requests", requests)) if value}
    return {**container, "resources": resources}


def _texts(quantities: Any) -> dict[str, str]:
    return {key: str(value) for key, value in (quantities or {}).items()}


def with_priority(pod: Plain, classes: list[Plain]) -> Plain:
    """Resolves ``priorityClassName`` as the Priority admission plugin does."""
    spec = pod["spec"]
    name = spec.get("priorityClassName")
    chosen = next((c for c in classes if (c["metadata"]["name"] == name if name else c.get("globalDefault"))), None)
    policy = (chosen or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    found = {"priority": (chosen or {}).get("value", 0), "preemptionPolicy": policy}
    return {**pod, "spec": {**found, **{k: v for k, v in spec.items() if v is not None}}}
