"""The preempt verb: what kube-scheduler's own preemption may do where slices are wanted.

kube-scheduler proposes victims because CPU or memory is short, and does not see GPUs. A node stays a candidate only if
the pod's slices fit there once those victims are gone, or once a few more of lower priority are: those are added to
its list. Nodes are left out rather than answered without victims, which would be an error for all of them.

kube-scheduler looks a victim's UID up among the pods of the very node, and fails for all nodes if it is not there. So
a pod that has its slice there and runs elsewhere is named by its executor, with which it goes (``bereaved``); a node
where it has none yet, only the room that its lease keeps, is left out.
Source: convertPodUIDToPod in pkg/scheduler/extender.go (1.36).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tessera.model.charges import totals_of
from tessera.model.demands import wants_slice
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.budgets import Budget
from tessera.scheduler.engine import Engine
from tessera.scheduler.fit import min_level
from tessera.scheduler.holders import Holder, Holders
from tessera.scheduler.nominations import Nominations
from tessera.scheduler.placing import slice_totals
from tessera.scheduler.victims import Case

_PLANNED = 64
"""Candidates that are looked at; kube-scheduler offers about 100, or a tenth of the nodes."""


def case_of(
    engine: Engine,
    holders: Holders,
    nominations: Nominations,
    pod: Pod,
    budgets: Sequence[Budget] = (),
    lately: Sequence[Holder] = (),
) -> Case | None:
    """The question whom ``pod`` may push out; ``None`` for an executor, and for one that asks for no slice, or wrongly.

    Also for one with several slices elsewhere: they need not be placed as room was made for them.
    """
    demand = engine.demand_of(pod)
    if demand is None or isinstance(demand, Reason):
        return None
    away = engine.away_on(pod, ()) is not None
    if away and (pod.lease or engine.placing is None or len(demand.containers) > 1):
        return None
    totals = slice_totals(demand.containers[0]) if away else totals_of(pod)
    level = min_level(demand, engine.options.level)
    return Case(engine.ledger, holders, pod, demand, totals, level, nominations.claims(), budgets, lately, away)


@dataclass(frozen=True, slots=True)
class Leaving:
    """UIDs of those who have to leave a node; how many more budgets that breaks than kube-scheduler's victims alone."""

    uids: tuple[str, ...]
    broken: int = 0


def viable(case: Case | None, pod: Pod, candidates: Mapping[str, Collection[str]]) -> dict[str, Leaving]:
    """The nodes of ``candidates`` (name -> UIDs of victims) that hold ``pod`` without their victims and whom else.

    ``case`` is that of the pod, ``None`` if it asks for no slice, or not properly.
    """
    offered = {node: tuple(victims) for node, victims in candidates.items() if victims}
    if case is None:
        return {} if wants_slice(pod) else {node: Leaving(uids) for node, uids in offered.items()}
    out = {}
    for node in list(offered)[:_PLANNED]:
        owners = frozenset(map(case.holders.owner, offered[node]))
        plan = case.plan(node, owners)
        added = [victim for victim in plan.victims if victim.uid not in owners] if plan else []
        named = [case.holders.pods_of(victim, node) for victim in added]
        if plan and all(named) and (pod.may_preempt or not added):
            given = [victim for victim in plan.victims if victim.uid in offered[node]]
            broken = len(case.breaking(plan.victims)) - len(case.breaking(given))
            out[node] = Leaving((*offered[node], *(uid for uids in named for uid in uids)), broken)
    return out
