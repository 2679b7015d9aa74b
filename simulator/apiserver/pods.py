"""What is special about pods: Binding, eviction, and deletion that waits for the kubelet.

After pkg/registry/core/pod/storage (assignPod, setPodNodeAndMetadata, evictPod) and strategy (CheckGracefulDelete).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from tessera.simulator.apiserver.answers import Refused, conflict, not_found, stale
from tessera.simulator.apiserver.store import Store

Plain = dict[str, Any]
TERMINAL = ("Succeeded", "Failed")


def timestamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def bind(store: Store, namespace: str, name: str, binding: Plain, now: datetime) -> None:
    """Sets the node and merges the Binding's annotations, in one write."""
    pod = store.entry("pods", namespace, name)
    if pod is None:
        raise not_found("pods", name)
    node = (binding.get("target") or {}).get("name")
    if not node:
        raise Refused(422, f'Binding "{name}" is invalid: target.name: Required value')
    _check_bindable(pod.object, binding.get("metadata") or {}, name)
    meta = pod.object["metadata"]
    annotations = {**(meta.get("annotations") or {}), **((binding.get("metadata") or {}).get("annotations") or {})}
    spec = {**pod.object["spec"], "nodeName": node}
    status = with_condition(pod.object.get("status") or {}, {"type": "PodScheduled", "status": "True"}, now)
    bound = {**pod.object, "metadata": {**meta, "annotations": annotations}, "spec": spec, "status": status}
    store.put("pods", bound)


def _check_bindable(pod: Plain, preconditions: Plain, name: str) -> None:
    meta, spec = pod["metadata"], pod["spec"]
    check_preconditions("pods/binding", pod, preconditions)
    if meta.get("deletionTimestamp"):
        raise conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict("pods/binding", name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")


def check_preconditions(plural: str, obj: Plain, wanted: Plain) -> None:
    """Raises 409 if ``uid`` or ``resourceVersion`` are given and not the object's."""
    meta = obj["metadata"]
    if wanted.get("uid") and wanted["uid"] != meta["uid"]:
        why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {meta['uid']}"
        raise conflict(plural, meta["name"], why)
    if wanted.get("resourceVersion") and wanted["resourceVersion"] != meta["resourceVersion"]:
        raise stale(plural, meta["name"])


def with_condition(status: Plain, condition: Plain, now: datetime) -> Plain:
    others = [c for c in status.get("conditions") or () if c.get("type") != condition["type"]]
    return {**status, "conditions": [*others, {"lastTransitionTime": timestamp(now), **condition}]}


def delete(store: Store, plural: str, obj: Plain, options: Plain, now: datetime) -> Plain:
    """Removes an object, or marks it while a kubelet or a finalizer still holds it; answers its last state."""
    meta = obj["metadata"]
    check_preconditions(plural, obj, options.get("preconditions") or {})
    grace_s = _grace_s(obj, options) if plural == "pods" else 0
    if not grace_s and not meta.get("finalizers"):
        return store.remove(plural, meta.get("namespace") or "", meta["name"]) or obj
    already_s = meta.get("deletionGracePeriodSeconds")
    if meta.get("deletionTimestamp") and already_s is not None and grace_s >= already_s:
        return obj
    marks = {"deletionTimestamp": timestamp(now + timedelta(seconds=grace_s)), "deletionGracePeriodSeconds": grace_s}
    return store.put(plural, {**obj, "metadata": {**meta, **marks}})


def _grace_s(pod: Plain, options: Plain) -> int:
    """Nobody needs to stop a pod that runs nowhere or has ended."""
    if not pod["spec"].get("nodeName") or (pod.get("status") or {}).get("phase") in TERMINAL:
        return 0
    wished = options.get("gracePeriodSeconds")
    return int(pod["spec"].get("terminationGracePeriodSeconds", 30) if wished is None else max(wished, 0))


def released(obj: Plain) -> bool:
    """Whether an object marked as deleted is held by nothing any more."""
    meta = obj["metadata"]
    marked = bool(meta.get("deletionTimestamp"))
    return marked and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")
