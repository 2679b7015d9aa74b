"""Disruption budgets at an eviction, after pkg/registry/core/pod/storage/eviction.go.

Only ``matchLabels`` of a selector is read; what a budget allows is what its status says, which the disruption
controller, or a test in its place, has written.
"""

from typing import Any

from tessera.simulator.apiserver.answers import Refused
from tessera.simulator.apiserver.store import Store

Plain = dict[str, Any]
BUDGET_SAYS_NO = "Cannot evict pod as it would violate the pod's disruption budget."
_DONE = ("Succeeded", "Failed", "Pending")


def spend_budget(store: Store, pod: Plain) -> None:
    """Takes one disruption from the budget of ``pod``; raises ``Refused`` if it allows none."""
    if (pod.get("status") or {}).get("phase") in _DONE or pod["metadata"].get("deletionTimestamp"):
        return
    budgets = [each for each in store.list("poddisruptionbudgets", pod["metadata"]["namespace"]) if _covers(each, pod)]
    if len(budgets) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise Refused(500, text, "InternalError")
    for budget in budgets:
        status = budget.get("status") or {}
        if status.get("disruptionsAllowed", 0) <= 0:
            raise Refused(429, BUDGET_SAYS_NO, cause=("DisruptionBudget", _needs(budget["metadata"]["name"], status)))
        status = {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1}
        store.put("poddisruptionbudgets", {**budget, "status": status})


def _covers(budget: Plain, pod: Plain) -> bool:
    labels = pod["metadata"].get("labels") or {}
    wanted = ((budget.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _needs(name: str, status: Plain) -> str:
    desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    if current > desired:
        return f"The disruption budget {name} does not allow evicting pods currently"
    return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
