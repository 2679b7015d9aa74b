"""What is to be done for one workload, given it and what it has made. Pure."""

from collections.abc import Sequence
from typing import Any

from tessera.kube.resources import DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS
from tessera.simulator.controllers.actions import (
    POD,
    Action,
    Create,
    Delete,
    Patch,
    deleting,
    digest,
    ended,
    owned,
    pod_from,
    ready,
    with_status,
)

Plain = dict[str, Any]
HASH_LABEL = "pod-template-hash"


def deployment(obj: Plain, sets: Sequence[Plain]) -> list[Action]:
    """One ReplicaSet for the template of now with all replicas; others go down to none."""
    wanted = int(obj["spec"].get("replicas", 1))
    name = f"{obj['metadata']['name']}-{digest(obj['spec']['template'])}"
    actions: list[Action] = []
    current = next((s for s in sets if s["metadata"]["name"] == name), None)
    if current is None:
        actions.append(Create(REPLICA_SETS, _replica_set(obj, name, wanted)))
    for each in sets:
        replicas = wanted if each is current else 0
        if int(each["spec"].get("replicas", 1)) != replicas:
            actions.append(Patch(REPLICA_SETS, each, {"spec": {"replicas": replicas}}, subresource=""))
    counts = {key: sum(int((s.get("status") or {}).get(key, 0)) for s in sets) for key in ("replicas", "readyReplicas")}
    return actions + with_status(DEPLOYMENTS, obj, {**counts, "availableReplicas": counts["readyReplicas"]})


def replica_set(obj: Plain, pods: Sequence[Plain]) -> list[Action]:
    """As many pods as asked for that have not ended; what is too much goes, those that are not ready first."""
    wanted = int(obj["spec"].get("replicas", 1))
    living = [pod for pod in pods if not ended(pod) and not deleting(pod)]
    actions: list[Action] = [Create(POD, pod_from(REPLICA_SETS, obj)) for _ in range(wanted - len(living))]
    surplus = sorted(living, key=ready)[: max(len(living) - wanted, 0)]
    actions += [Delete(POD, pod) for pod in surplus]
    count = {"replicas": len(living), "readyReplicas": sum(ready(pod) for pod in living)}
    return actions + with_status(REPLICA_SETS, obj, count)


def stateful_set(obj: Plain, pods: Sequence[Plain]) -> list[Action]:
    """Pods with numbers, each made when the ones before it are ready (or all at once, if it says so)."""
    wanted, parallel = int(obj["spec"].get("replicas", 1)), obj["spec"].get("podManagementPolicy") == "Parallel"
    by_name = {pod["metadata"]["name"]: pod for pod in pods}
    expected = [f"{obj['metadata']['name']}-{number}" for number in range(wanted)]
    actions: list[Action] = []
    for name in expected:
        pod = by_name.get(name)
        if pod is None:
            actions.append(Create(POD, pod_from(STATEFUL_SETS, obj, name)))
        elif ended(pod) and not deleting(pod):
            actions.append(Delete(POD, pod))
        if not parallel and (pod is None or not ready(pod)):
            break
    surplus = [pod for name, pod in by_name.items() if name not in expected and not deleting(pod)]
    actions += [Delete(POD, pod) for pod in surplus]
    count = {"replicas": len(pods), "readyReplicas": sum(ready(pod) for pod in pods)}
    return actions + with_status(STATEFUL_SETS, obj, count)


def _replica_set(deployment_: Plain, name: str, replicas: int) -> Plain:
    spec = deployment_["spec"]
    mark = {HASH_LABEL: name.rpartition("-")[2]}
    template_meta = spec["template"].get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), **mark}
    template = {**spec["template"], "metadata": {**template_meta, "labels": labels}}
    selector = {"matchLabels": {**((spec.get("selector") or {}).get("matchLabels") or {}), **mark}}
    meta = {
        "name": name,
        "namespace": deployment_["metadata"]["namespace"],
        "labels": labels,
        "ownerReferences": owned(DEPLOYMENTS, deployment_),
    }
    return {"metadata": meta, "spec": {"replicas": replicas, "selector": selector, "template": template}}
