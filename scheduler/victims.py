"""Whom a pod may push out of one node, and which of several nodes loses least by it. Pure: nothing is changed.

Only pods of strictly lower priority are victims. All of them are thought away; then they are let back in one by one,
the most important first, as long as the pod still fits: who does not get back in is a victim, so none of the victims
could stay. Room that becomes free without anybody's doing, because pods end already, comes first; room that is being
made for another pod of the same or a higher priority is not there, that of a lower one is.

A pod whose slices are on other nodes is a victim there: with it all that it holds by its leases goes, wherever that is.

The order of nodes is kube-scheduler's: fewest broken budgets, lowest of the highest priorities, lowest sum of
priorities, fewest victims, the latest start among the most important of them.
Source: pickOneNodeForPreemption and SelectVictimsOnNode in pkg/scheduler/framework (1.36).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, Totals
from tessera.model.demands import PodDemand
from tessera.model.ledger import Ledger
from tessera.model.pods import Pod
from tessera.scheduler.budgets import Budget, breaking
from tessera.scheduler.choice import choose
from tessera.scheduler.holders import Holder, Holders, Rooms
from tessera.scheduler.hypothesis import Hypothesis
from tessera.scheduler.policy import PACK

_STEPS = 500
_OFFSET = 1 << 31
"""Added to each priority before the sum, so that more victims are never a lower sum; kube-scheduler's own figure."""
_NOT_STARTED = "~"
"""Sorts after every time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Room on ``node`` that is being made for ``pod``; ``room`` is exactly what it will take, if that is known."""

    pod: Pod
    node: str
    room: Charge | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Without ``victims``, who break ``violations`` budgets, the pod takes ``room``; so it needs none if empty."""

    room: Charge
    victims: tuple[Holder, ...] = ()
    violations: int = 0

    @property
    def node(self) -> str:
        return self.room.node

    @property
    def badness(self) -> tuple[int, int, int, int]:
        priorities = [victim.priority for victim in self.victims]
        return (
            self.violations,
            max(priorities, default=-_OFFSET),
            sum(priority + _OFFSET for priority in priorities),
            len(priorities),
        )


def least_bad(plans: Iterable[Plan]) -> Plan | None:
    """The plan that costs least; among equals the one whose most important victims started last."""
    found = list(plans)
    lowest = min((plan.badness for plan in found), default=None)
    return max((plan for plan in found if plan.badness == lowest), key=_first_start, default=None)


@dataclass(frozen=True, slots=True)
class Case:
    """One pod that fits nowhere, against the cluster as it is at each question.

    ``lately`` are victims that the API server's budgets may not count yet; ``away``: the pod runs on another node than
    that of the slice.
    """

    ledger: Ledger
    holders: Holders
    pod: Pod
    demand: PodDemand
    totals: Totals
    level: int
    claims: Sequence[Claim] = ()
    budgets: Sequence[Budget] = ()
    lately: Sequence[Holder] = ()
    away: bool = False

    def plan(self, node: str, given: Collection[str] = ()) -> Plan | None:
        """The fewest, lowest victims on ``node``, beside those ``given`` (UIDs); ``None`` if all would not do."""
        state, rooms = Hypothesis(self.ledger), self.holders.rooms(node)
        there = list(self.holders.among(rooms))
        self.clear(state, [node])
        forced = [h for h in there if h.leaving_from is None and (h.uid in given or self.forced(h))]
        for holder in there:
            if holder.uid in given:
                _take_out(state, rooms, holder)
        lower = sorted((h for h in there if self.lower(h) and h not in forced), key=_importance)
        room = self._room(state, node)
        if room is not None:
            return self._plan(room, [*forced], lower)
        for holder in lower:
            _take_out(state, rooms, holder)
        if self._room(state, node) is None:
            return None
        sizes = {holder.uid: self._size(rooms[holder.uid]) for holder in lower}
        by_size = sorted(lower, key=lambda h: (-h.priority, sizes[h.uid]))
        tried = [self._let_back(state, rooms, node, order, forced, lower) for order in (lower, by_size)]
        return least_bad(plan for plan in tried if plan is not None)

    def free(self, node: str) -> Plan | None:
        """The plan for ``node`` if nobody has to leave who was not told to already."""
        plan = self.plan(node)
        return plan if plan and all(self.forced(victim) for victim in plan.victims) else None

    def clear(self, state: Hypothesis, nodes: Collection[str]) -> None:
        """Takes out of ``state`` what will be free on ``nodes`` anyway, and puts in what others will take."""
        state.take_out(self.pod.uid)
        for node in nodes:
            rooms = self.holders.rooms(node)
            for holder in self.holders.among(rooms):
                if self.holders.leaving(holder) or self.forced(holder):
                    _take_out(state, rooms, holder)
        for claim in self.claims:
            if claim.pod.uid != self.pod.uid and claim.node in nodes:
                self._heed(state, claim)

    def lower(self, holder: Holder) -> bool:
        """Whether the pod may push this one out."""
        return holder.priority < self.pod.priority and holder.leaving_from is None

    def forced(self, holder: Holder) -> bool:
        """Whether this one was told to give way to the pod already."""
        return holder.preempted_for == self.pod.uid and self.lower(holder)

    def _heed(self, state: Hypothesis, claim: Claim) -> None:
        held = self.ledger.charge_of(claim.pod.uid)
        if held is not None and held.node != claim.node:
            return
        state.take_out(claim.pod.uid)
        if claim.pod.priority >= self.pod.priority and claim.room is not None:
            state.put_in(claim.pod.uid, claim.room)
        elif claim.pod.priority >= self.pod.priority:
            state.put_back(claim.pod.uid)

    def _let_back(
        self, state: Hypothesis, rooms: Rooms, node: str, order: Sequence[Holder], forced: list[Holder],
        lower: list[Holder],
    ) -> Plan | None:  # fmt: skip
        """Leaves ``state`` as it found it: without all of ``lower``."""
        breaks = self.breaking([*forced, *lower])
        victims: list[Holder] = []
        for holder in sorted(order, key=lambda h: h.uid not in breaks):
            for key in rooms[holder.uid]:
                state.put_back(key)
            if self._room(state, node) is None:
                _take_out(state, rooms, holder)
                victims.append(holder)
        room = self._room(state, node)
        for holder in order:
            _take_out(state, rooms, holder)
        return None if room is None else self._plan(room, [*forced, *victims], lower)

    def _plan(self, room: Charge, victims: list[Holder], lower: list[Holder]) -> Plan:
        breaks = self.breaking([*victims, *(h for h in lower if h not in victims)])
        ordered = sorted(victims, key=_importance)
        return Plan(room, tuple(ordered), sum(victim.uid in breaks for victim in ordered))

    def breaking(self, holders: Iterable[Holder]) -> set[str]:
        """UIDs of those whose leaving breaks a budget, if all of ``holders`` leave."""
        ordered = sorted(holders, key=_importance)
        return breaking(self.budgets, ordered, self.lately)

    def _room(self, state: Hypothesis, node: str) -> Charge | None:
        row = state.row(node)
        if row is None or not _leaves(state, row, self.totals):
            return None
        found: Assignment | None = choose(state, node, self.demand, PACK, self.level, _STEPS)
        return None if found is None else Charge(node, self.totals, found, self.demand.namespace)

    def _size(self, keys: Collection[str]) -> tuple[int, int]:
        charges = filter(None, map(self.ledger.charge_of, keys))
        shares = [share for charge in charges if charge.assignment for share in charge.assignment.shares]
        return sum(share.mem_bytes for share in shares), sum(share.core_percent for share in shares)


def _take_out(state: Hypothesis, rooms: Rooms, holder: Holder) -> None:
    for key in rooms[holder.uid]:
        state.take_out(key)


def _leaves(ledger: Ledger, row: int, totals: Totals) -> bool:
    """As ``Ledger.room_of``, for one row."""
    return bool(
        ledger.node_mem[row] >= totals.mem_bytes
        and ledger.node_core[row] >= totals.core_percent
        and ledger.node_gpus[row] >= totals.gpus
        and ledger.node_slots[row] >= totals.slots
    )


def _importance(holder: Holder) -> tuple[int, str]:
    """kube-scheduler's MoreImportantPod: by priority, then who started first."""
    return -holder.priority, holder.started or _NOT_STARTED


def _first_start(plan: Plan) -> str:
    highest = max((victim.priority for victim in plan.victims), default=0)
    starts = [victim.started or _NOT_STARTED for victim in plan.victims if victim.priority == highest]
    return min(starts, default=_NOT_STARTED)
