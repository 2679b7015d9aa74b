"""Which pods' departure breaks a PodDisruptionBudget, by the API server's own figures. Pure.

As kube-scheduler counts for its preemption: pods in the order of importance, each taking one from every budget that
covers it; who finds a budget empty breaks it.
Source: filterPodsWithPDBViolation in pkg/scheduler/framework/plugins/defaultpreemption (1.36).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec


class Covered(Protocol):
    """What a budget asks of a pod."""

    @property
    def uid(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


class Expression(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None


class Selector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] | None = None
    match_expressions: list[Expression] | None = None


class _Spec(msgspec.Struct, frozen=True):
    selector: Selector | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    disruptions_allowed: int = 0
    disrupted_pods: dict[str, Any] | None = None


class _Meta(msgspec.Struct, frozen=True):
    namespace: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()
    status: _Status = _Status()


@dataclass(frozen=True, slots=True)
class Budget:
    """``allowed`` more of the pods that ``selector`` picks in ``namespace`` may go, beside those in ``disrupted``."""

    namespace: str
    selector: Selector
    allowed: int
    disrupted: Collection[str] = ()

    def covers(self, pod: Covered) -> bool:
        return pod.namespace == self.namespace and selects(self.selector, pod.labels)


def budgets_of(objects: Iterable[dict[str, Any]]) -> list[Budget]:
    """The budgets among the API's objects; one without a selector covers nobody, as in policy/v1."""
    read = (msgspec.convert(each, _Object) for each in objects)
    return [
        Budget(each.metadata.namespace, each.spec.selector, each.status.disruptions_allowed,
               frozenset(each.status.disrupted_pods or ()))
        for each in read
        if each.spec.selector is not None
    ]  # fmt: skip


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector picks these labels; an empty one picks all, an unknown operator none."""
    if any(labels.get(key) != value for key, value in (selector.match_labels or {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.match_expressions or ())


def breaking(budgets: Iterable[Budget], pods: Iterable[Covered], gone: Iterable[Covered] = ()) -> set[str]:
    """UIDs of those of ``pods``, the most important first, whose departure breaks a budget.

    ``gone`` left lately and may not be counted in the budgets yet.
    """
    pods, gone, out = list(pods), list(gone), set()
    for budget in budgets:
        covered = [pod.uid for pod in pods if budget.covers(pod) and pod.name not in budget.disrupted]
        out.update(covered[max(left(budget, gone), 0) :])
    return out


def left(budget: Budget, gone: Iterable[Covered]) -> int:
    """How many more may go, with those in ``gone`` counted."""
    return budget.allowed - sum(budget.covers(each) and each.name not in budget.disrupted for each in gone)


def _holds(expression: Expression, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression.key), expression.values or ()
    match expression.operator:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False
