"""The part of kube-scheduler's own filters that this cluster needs: readiness, taints, node name, and resources that
the scheduler itself counts. Pure, over plain objects; texts as in k8s.io/kubernetes/pkg/scheduler/framework/plugins.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

from tessera.model import names
from tessera.model.quantities import QuantityError, parse_quantity

Plain = dict[str, Any]
Amounts = dict[str, Fraction]

IGNORED = frozenset({names.GPU_MEM, names.GPU_CORE, names.GPU_COUNT, names.GPU})
"""``managedResources`` with ``ignoredByScheduler: true``."""
MANAGED = IGNORED | {names.SLICE}


def uses_extender(pod: Plain, scheduler: str) -> bool:
    """Whether the pod goes to the extender: it names a managed resource and asked for that profile."""
    return pod["spec"].get("schedulerName") == scheduler and any(key in MANAGED for key in requests_of(pod))


def requests_of(pod: Plain) -> Amounts:
    """What the pod asks of a node: containers and sidecars added, init containers at their peak, and one pod."""
    spec = pod["spec"]
    sums: Counter[str] = Counter()
    inits = spec.get("initContainers") or []
    for container in [*(spec.get("containers") or []), *(c for c in inits if c.get("restartPolicy") == "Always")]:
        sums.update(_requests(container))
    totals: Amounts = {key: Fraction(value) for key, value in sums.items()}
    for container in inits:
        for key, value in _requests(container).items():
            totals[key] = max(totals.get(key, Fraction(0)), value)
    return {**totals, "pods": Fraction(1)}


def refusal(pod: Plain, node: Plain, used: Mapping[str, Fraction], counted: Amounts) -> str:
    """Why ``node`` does not suit, empty if it does. ``used``: what is taken there; ``counted``: what is asked."""
    named = pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in named.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in _taints(node):
        if not _tolerated(taint, pod["spec"].get("tolerations") or []):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
    allocatable = amounts((node.get("status") or {}).get("allocatable") or {})
    for key, asked in counted.items():
        if asked and asked > allocatable.get(key, Fraction(0)) - used.get(key, Fraction(0)):
            return "Too many pods" if key == "pods" else f"Insufficient {key}"
    return ""


def counted_requests(pod: Plain) -> Amounts:
    """What the scheduler itself counts against a node."""
    return {key: value for key, value in requests_of(pod).items() if key not in IGNORED}


def sum_requests(pods: Iterable[Plain]) -> Amounts:
    """What these pods take together of what the scheduler counts."""
    sums: Counter[str] = Counter()
    for pod in pods:
        sums.update(counted_requests(pod))
    return {key: Fraction(value) for key, value in sums.items()}


def explain(reasons: Collection[str]) -> str:
    """The message of ``PodScheduled``: one reason for each node, gathered and sorted as kube-scheduler does."""
    texts = sorted(f"{count} {reason}" for reason, count in Counter(reasons).items())
    return f"0/{len(reasons)} nodes are available: {', '.join(texts)}." if texts else "no nodes available"


def amounts(quantities: Mapping[str, object]) -> Amounts:
    """Quantities as exact numbers; malformed ones count 0."""
    return {key: _amount(value) for key, value in quantities.items()}


def _requests(container: Plain) -> Amounts:
    resources = container.get("resources") or {}
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amount(value: object) -> Fraction:
    try:
        return Fraction(parse_quantity(str(value)))
    except QuantityError:
        return Fraction(0)


def _taints(node: Plain) -> list[Plain]:
    spec = node.get("spec") or {}
    taints = [t for t in spec.get("taints") or [] if t.get("effect") in ("NoSchedule", "NoExecute")]
    if spec.get("unschedulable"):
        taints.append({"key": "node.kubernetes.io/unschedulable"})
    conditions = (node.get("status") or {}).get("conditions") or []
    if not any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        taints.append({"key": "node.kubernetes.io/not-ready"})
    return taints


def _tolerated(taint: Plain, tolerations: Iterable[Plain]) -> bool:
    for toleration in tolerations:
        same_key = not toleration.get("key") or toleration["key"] == taint["key"]
        exists = toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == taint.get(
            "value", ""
        )
        same_effect = not toleration.get("effect") or toleration["effect"] == taint.get("effect")
        if same_key and exists and same_effect:
            return True
    return False
