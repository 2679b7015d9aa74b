"""The leader's own moves, where the operator allows them: one plan at a time, for the pod that has waited longest.

Room that is made is kept in the ledger for that pod from before the first eviction on. Evictions honour disruption
budgets. A plan that stops on the way is not forced on: the pod waits its time again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog
from prometheus_client import Counter

from tessera.kube.convert import pod_reference
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.census import census
from tessera.scheduler.defragment import Proposal, proposal
from tessera.scheduler.drain import Move
from tessera.scheduler.engine import Engine
from tessera.scheduler.moving import Moved, Mover
from tessera.scheduler.nominations import Nominations
from tessera.scheduler.residents import Population
from tessera.scheduler.trial import Trial

_PERIOD_S = 2.0
_SEARCH_S = 0.3
_HOPELESS = frozenset({Code.TOO_LARGE, Code.INVALID_REQUEST, Code.REMOTE_UNAVAILABLE, Code.NO_GPU, Code.UNKNOWN_DOMAIN})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Moves a plan that the operator allows (0: none), seconds that a pod waits first and that a move may take."""

    moves: int = 0
    after_s: float = 120.0
    timeout_s: float = 120.0


class Rescue:
    """``leading`` is asked before each eviction; ``moves`` counts them by outcome."""

    def __init__(
        self,
        engine: Engine,
        nominations: Nominations,
        gateway: Gateway,
        recorder: EventRecorder,
        allowance: Allowance,
        leading: Callable[[], bool],
        moves: Counter,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine, self._nominations, self._gateway, self._recorder = engine, nominations, gateway, recorder
        self._allowance, self._leading, self._moves = allowance, leading, moves
        self._clock, self._sleep = clock, sleep
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self.step()
            await self._sleep(_PERIOD_S)

    async def step(self) -> bool:
        """Looks for a pod to rescue, and rescues it; answers whether anything was moved."""
        pod = self._oldest()
        if pod is None:
            return False
        try:
            return await self._rescue(pod)
        except (KubeError, ApiError, msgspec.DecodeError) as error:
            log.warning("rescue stopped", pod=pod.key, error=str(error))
            return False
        finally:
            if pod.uid in self._since:
                self._since[pod.uid] = self._clock()

    def _oldest(self) -> Pod | None:
        """The pod that has waited longest, and long enough, since it was first seen or last tried."""
        now = self._clock()
        waiting = {uid: pod for uid, (pod, why) in self._engine.waiting.items() if self._may_be_rescued(uid, why)}
        self._since = {uid: self._since.get(uid, now) for uid in waiting} if self._leading() else {}
        late = [uid for uid, since in self._since.items() if since + self._allowance.after_s <= now]
        return waiting[min(late, key=lambda uid: self._since[uid])] if late else None

    def _may_be_rescued(self, uid: str, why: Reason) -> bool:
        """Not where no move can help, nor where room is being made already."""
        return why.code not in _HOPELESS and self._nominations.claim_of(uid) is None

    async def _rescue(self, pod: Pod) -> bool:
        people = await census(self._gateway)
        found = await asyncio.to_thread(self._plan, Trial(self._engine, (pod.uid,)).engine, people, pod)
        if isinstance(found, Reason) or not found.moves:
            why = found.text if isinstance(found, Reason) else found.reason
            log.info("no move would help", pod=pod.key, reason=why)
            return False
        self._nominations.nominate(pod, found.node, self._allowance.timeout_s * (len(found.moves) + 1))
        mover, made = Mover(self._gateway, self._allowance.timeout_s, clock=self._clock, sleep=self._sleep), False
        for move in found.moves:
            done = await self._move(mover, people, move, pod)
            made = made or done.evicted
            if done.reason:
                log.warning("rescue stopped", pod=pod.key, moved=f"{move.namespace}/{move.name}", reason=done.reason)
                self._nominations.withdraw(pod.uid)
                break
        return made

    def _plan(self, engine: Engine, people: Population, pod: Pod) -> Proposal | Reason:
        deadline = time.monotonic() + _SEARCH_S
        return proposal(engine, people, pod, self._allowance.moves, lambda: time.monotonic() >= deadline)

    async def _move(self, mover: Mover, people: Population, move: Move, pod: Pod) -> Moved:
        if not self._leading():
            return Moved(False, reason="this scheduler does not lead any more")
        resident = people.residents[move.uid]
        log.info("moving a pod", pod=resident.pod.key, source=move.source, target=move.target, rescued=pod.key)
        self._recorder.record(
            pod_reference(resident.pod), "Normal", "SliceMoved", f"evicted from {move.source} to let pod {pod.key} in"
        )

        async def wanted() -> bool:
            return pod.uid in self._engine.keeps  # until it is bound or gone

        done = await mover.move(resident, wanted)
        self._moves.labels("moved" if not done.reason else "stuck" if done.evicted else "refused").inc()
        return done
