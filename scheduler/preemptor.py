"""Lets a pod that fits nowhere take the place of pods of lower priority, as kube-scheduler does for what it counts.

kube-scheduler itself cannot: it does not count GPU memory, so it finds no victims. The leader writes the waiting pod's
``status.nominatedNodeName``, then the condition DisruptionTarget of every victim, naming the waiting pod, then deletes
them with their own grace periods. Budgets are honoured as far as possible. The room is kept for the pod until it is
bound (``nominations``). A pod whose slice is to be on another node than its own has no nominated node by that.

Exactly once: nobody is chosen while a former choice still comes true. What was chosen stands in the victims' own
conditions before the first of them is deleted, so a new leader goes on with the same ones.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import structlog

from tessera.kube.convert import pod_reference, preemption_message
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.resources import POD_DISRUPTION_BUDGETS
from tessera.kube.stored import stored
from tessera.model.demands import wants_slice
from tessera.model.ledger import Bools
from tessera.model.pods import Pod
from tessera.model.quantities import format_bytes
from tessera.reasons import Code, Reason
from tessera.scheduler.budgets import budgets_of
from tessera.scheduler.dismissals import Dismissals
from tessera.scheduler.engine import Engine
from tessera.scheduler.holders import Holders
from tessera.scheduler.nominations import Nominations
from tessera.scheduler.preemption import Leaving, case_of, viable
from tessera.scheduler.shortlist import Step, shortlist
from tessera.scheduler.victims import Case, Plan, least_bad

_LOOKED_AT = 64
"""Nodes of one step that are planned in full; kube-scheduler's own preemption looks at about 100."""
_IN_VAIN = 16
"""After so many nodes in a row without a better plan the best one is taken."""
_AT_ONCE = 50
_KEPT_S = 60.0
"""How long the room is kept where the API server does not say so itself."""
_RETRY_S = 2.0
_DECISION_S = 8.0
"""Below the extender's own timeout in kube-scheduler."""
_MOST_WAITING = 256
"""Pods that wait for a decision; kube-scheduler asks again for those that are left out."""

log = structlog.get_logger()


class Preemptor:
    """``counted`` hears of each preemption how many victims it had. Not ``allowed``: only the verb is answered."""

    def __init__(
        self,
        engine: Engine,
        holders: Holders,
        nominations: Nominations,
        gateway: Gateway,
        lease: LeaderLease,
        recorder: EventRecorder,
        dismissals: Dismissals,
        counted: Callable[[int], None] = lambda _: None,
        *,
        allowed: bool = True,
    ) -> None:
        self._engine, self._holders, self._nominations = engine, holders, nominations
        self._gateway, self._lease, self._recorder, self._counted = gateway, lease, recorder, counted
        self._dismissals, self._allowed = dismissals, allowed
        self._waiting: dict[str, tuple[Pod, Sequence[str]]] = {}
        self._woken = asyncio.Event()
        self._decided: dict[str, asyncio.Event] = {}

    def consider(self, pod: Pod, reason: Reason, nodes: Sequence[str]) -> None:
        """A pod was refused by all of ``nodes``, which kube-scheduler's own rules leave it. Only queues; cheap."""
        if not self._allowed or not _of_room(reason) or not pod.may_preempt:
            return
        lower_claims = any(claim.pod.priority < pod.priority for claim in self._nominations.claims())
        if not lower_claims and not self._holders.any_below(pod.priority):
            return
        if pod.uid not in self._waiting and len(self._waiting) >= _MOST_WAITING:
            return
        self._waiting[pod.uid] = pod, nodes
        self._decided.setdefault(pod.uid, asyncio.Event())
        self._woken.set()

    def consider_later(self, pod: Pod, nodes: Sequence[str]) -> None:
        """As ``consider``, if the pod is still refused in a while: its nominated node alone was asked about."""
        asyncio.get_running_loop().call_later(_RETRY_S, self._again, pod, nodes)

    async def preempt(self, pod: Pod, candidates: Mapping[str, list[str]]) -> Mapping[str, Leaving]:
        """The verb: what kube-scheduler's own preemption may do; nothing where room is being made for the pod here."""
        if (decided := self._decided.get(pod.uid)) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(decided.wait(), _DECISION_S)
        if not candidates or pod.uid in self._decided or self._nominations.claim_of(pod.uid) is not None:
            return {}
        if (away := self._engine.away_on(pod, list(candidates))) is not None:
            return {node: Leaving(tuple(candidates[node])) for node in away if candidates[node]}
        try:
            case = await self._case(pod) if wants_slice(pod) else None
        except (KubeError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("no candidate: the budgets cannot be read", pod=pod.key, error=str(error))
            return {}
        return viable(case, pod, candidates)

    async def idle(self) -> None:
        """Until every pod that was refused so far has been decided on."""
        for decided in list(self._decided.values()):
            await decided.wait()

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                uid = max(self._waiting, key=lambda each: self._waiting[each][0].priority)
                await self._decide(*self._waiting.pop(uid))

    async def _decide(self, pod: Pod, nodes: Sequence[str]) -> None:
        try:
            await self._preempt(pod, nodes)
        except (KubeError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("preemption not carried out", pod=pod.key, error=str(error))
            self.consider_later(pod, nodes)
        finally:
            if pod.uid not in self._waiting and (decided := self._decided.pop(pod.uid, None)):
                decided.set()

    def _again(self, pod: Pod, nodes: Sequence[str]) -> None:
        _, reason = self._engine.waiting.get(pod.uid, (pod, None))
        if reason is not None:
            self.consider(pod, reason, nodes)

    async def _preempt(self, pod: Pod, nodes: Sequence[str]) -> None:
        if not self._lease.leading or not await self._still_waits(pod):
            return
        case = await self._case(pod)
        if case is None or (plan := await self._plan(case, nodes)) is None:
            return
        grace_s = max((victim.grace_s for victim in plan.victims), default=0)
        self._nominations.take_over(pod, plan.room, _KEPT_S + grace_s)
        if plan.victims:
            await self._carry_out(case, plan)

    async def _still_waits(self, pod: Pod) -> bool:
        """What kube-scheduler asks about need not exist, and may be bound or on its way out by now."""
        found = await stored(self._gateway, pod)
        return found is not None and not (found.node or found.deleting or found.ended)

    async def _case(self, pod: Pod) -> Case | None:
        budgets = budgets_of(await self._gateway.list(POD_DISRUPTION_BUDGETS))
        self.aim()
        return case_of(self._engine, self._holders, self._nominations, pod, budgets, self._dismissals.lately())

    def aim(self) -> None:
        """Finds out on which GPUs the room will be of which only the node is known: said by another leader."""
        for claim in self._nominations.claims():
            if claim.room is None:
                case = case_of(self._engine, self._holders, self._nominations, claim.pod)
                if case is not None and (plan := case.free(claim.node)):
                    self._nominations.aim(claim.pod.uid, plan.room)

    async def _plan(self, case: Case, nodes: Sequence[str]) -> Plan | None:
        """The choice; it holds for the ledger as it is at the return."""
        offered = self._offered(case, nodes)
        claim = self._nominations.claim_of(case.pod.uid)
        if claim is not None and _takes(case, claim.node, offered) and (plan := case.free(claim.node)):
            return plan
        told = set[str]().union(*map(self._holders.nodes_of, self._holders.preempted_for(case.pod.uid)))
        if found := [plan for node in told if _takes(case, node, offered) and (plan := case.plan(node))]:
            return least_bad(found)
        for index, node in enumerate(self._holders.stale()):
            self._holders.refresh(node)
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return await self._search(case, shortlist(case, offered))

    def _offered(self, case: Case, nodes: Sequence[str]) -> Bools:
        """By row, where the room may be: on ``nodes``, or wherever an executor finds CPU and memory as things are."""
        if case.away and self._engine.placing is not None:
            return self._engine.placing.hosts(case.ledger, 1)
        offered = np.zeros(len(case.ledger.present), np.bool_)
        offered[[row for row in map(case.ledger.row, nodes) if row is not None]] = True
        return offered

    async def _search(self, case: Case, steps: Iterable[Step]) -> Plan | None:
        for step in steps:
            best: Plan | None = None
            late = 0
            for node in step.nodes[:_LOOKED_AT]:
                plan = case.plan(node)
                before, best = best, least_bad(each for each in (best, plan if _will_do(plan, step) else None) if each)
                late = late + 1 if before is best else 0
                if best is not None and late >= _IN_VAIN:
                    break
                await asyncio.sleep(0)  # kube-scheduler's questions come first
            if best is not None and (plan := case.plan(best.node)):
                return plan
        return None

    async def _carry_out(self, case: Case, plan: Plan) -> None:
        pod = case.pod
        asked = {holder.uid for holder in self._dismissals.lately()}
        victims = [victim for victim in plan.victims if victim.uid not in asked]
        if not victims:
            return
        log.info("preempting", pod=pod.key, node=plan.node, victims=[victim.key for victim in victims])
        try:
            if not case.away:  # the word is for the node on which the pod will run
                await self._dismissals.nominate(pod, plan.node)
        except ApiError:
            self._nominations.withdraw(pod.uid)
            raise
        message = preemption_message(pod)
        for victim in victims:
            if victim.preempted_for != pod.uid:
                await self._dismissals.tell(victim, message)
        asked_for = f"{format_bytes(plan.room.totals.mem_bytes)} " if plan.room.totals.mem_bytes else ""
        why = f"by {pod.key} (priority {pod.priority}) for a slice of {asked_for}on {plan.node}"
        for victim in victims:
            await self._dismissals.delete(victim, why)
        self._counted(len(victims))
        names = ", ".join(victim.key for victim in victims)
        self._recorder.record(pod_reference(pod), "Normal", "Preempting", f"on {plan.node}, of lower priority: {names}")


def _of_room(reason: Reason) -> bool:
    """Whether it is room that is missing; of a pod whose slice is to be elsewhere, only the GPUs' room is counted."""
    return reason.code is Code.NO_ROOM or (reason.code is Code.REMOTE_UNAVAILABLE and bool(reason.counts))


def _takes(case: Case, node: str, offered: Bools) -> bool:
    """Whether room on ``node`` is of use as things are: where the pod itself will run, kube-scheduler has said so."""
    row = case.ledger.row(node)
    return not case.away or (row is not None and bool(offered[row]))


def _will_do(plan: Plan | None, step: Step) -> bool:
    """Budgets are broken only once no node is left where they need not be."""
    return plan is not None and (step.breaks or not plan.violations)
