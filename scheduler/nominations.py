"""Room that is being made for a waiting pod goes to that pod.

Whoever makes the room says for whom in the waiting pod's ``status.nominatedNodeName``, Kubernetes' own word for it;
the leader's own moves say it here directly. Until the pod is bound, all that becomes free of what it needs there is
held for it, so that neither a newcomer nor the pod that was moved away takes it. kube-scheduler empties the field at
each attempt that fails, so the word holds for a while after it was last seen, and it always ends.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tessera.kube.reflector import Deleted, Listed, Replaced, Told, Upserted
from tessera.model.charges import Charge
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.promises import Promise
from tessera.scheduler.victims import Claim

KEPT_S = 60.0
"""How long a nomination outlives the field that said it."""


@dataclass(slots=True)
class _Nomination:
    pod: Pod
    node: str
    until: float
    room: Charge | None = None


class Nominations:
    """Who is to go where. ``clock`` answers seconds that never go back."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock
        self._known: dict[str, _Nomination] = {}
        self._listed: list[Pod] = []

    def nominate(self, pod: Pod, node: str, seconds: float, room: Charge | None = None) -> bool:
        """Keeps room on ``node`` for ``pod``, ``room`` if it is known which; answers whether all of it is there."""
        self._known[pod.uid] = nomination = _Nomination(pod, node, self._clock() + seconds, room)
        return self._keep(nomination)

    def take_over(self, pod: Pod, room: Charge, seconds: float) -> bool:
        """As ``nominate`` for exactly ``room``; pods of lower priority lose what is kept for them in its way."""
        for uid, known in list(self._known.items()):
            if known.node == room.node and known.pod.priority < pod.priority and self._in_the_way(known, room):
                self.withdraw(uid)
        return self.nominate(pod, room.node, seconds, room)

    def claims(self) -> list[Claim]:
        """For whom room is being made or kept, and where."""
        return [Claim(each.pod, each.node, each.room) for each in self._known.values()]

    def claim_of(self, uid: str) -> Claim | None:
        found = self._known.get(uid)
        return Claim(found.pod, found.node, found.room) if found else None

    def aim(self, uid: str, room: Charge) -> None:
        """Says on which GPUs the room for the pod will be."""
        if uid in self._known:
            self._known[uid].room = room

    def withdraw(self, uid: str) -> None:
        """What was kept for the pod is free; a Binding under way keeps what it reserved."""
        if self._known.pop(uid, None) is not None:
            self._engine.keeps.pop(uid, None)
            promised = self._engine.promises().get(uid)
            if promised is not None and promised.kind is Promise.HOLD:
                self._engine.undo(uid)

    def observe(self, change: Told[Pod]) -> None:
        """Takes one change of the pods, after the engine has."""
        match change:
            case Replaced(objects):
                for pod in objects:
                    self._observe(pod)
            case Listed(objects, uids):
                self._listed += [pod for pod in objects if pod.nominated or pod.uid in self._known]
                if uids is None:
                    return
                self._take_listed(uids)
            case Upserted(pod):
                self._observe(pod)
            case Deleted(gone):
                self.withdraw(gone.uid)
        self.settle()

    def _take_listed(self, uids: frozenset[str]) -> None:
        """Only now: before all pods of the list are charged, room looks free that is not."""
        listed, self._listed = self._listed, []
        for pod in listed:
            if pod.uid in uids:
                self._observe(pod)

    def settle(self) -> None:
        """Keeps what has become free, and ends what is past its time. To be called after room was freed.

        The most important come first.
        """
        now = self._clock()
        for uid, nomination in sorted(self._known.items(), key=lambda item: -item[1].pod.priority):
            if nomination.until <= now:
                self.withdraw(uid)
            else:
                self._keep(nomination)

    def _keep(self, nomination: _Nomination) -> bool:
        room = nomination.room
        return self._engine.keep_room(nomination.pod, nomination.node, room.assignment if room else None)

    def _in_the_way(self, known: _Nomination, room: Charge) -> bool:
        """Whether both could not be given, as far as is known where the other's room will be."""
        if known.room is None:
            return True
        ledger = self._engine.ledger
        if ledger.separate and known.room.domain != room.domain:
            return not ledger.groups(known.room).isdisjoint(ledger.groups(room))
        return not _gpus(known.room).isdisjoint(_gpus(room))

    def _observe(self, pod: Pod) -> None:
        known = self._known.get(pod.uid)
        if pod.node or pod.ended or pod.deleting:
            self._known.pop(pod.uid, None)
        elif pod.nominated:
            room = known.room if known and known.node == pod.nominated else None
            self._known[pod.uid] = _Nomination(pod, pod.nominated, math.inf, room)
        elif known is not None and known.until == math.inf:
            known.until = self._clock() + KEPT_S


def _gpus(room: Charge) -> set[str]:
    return {share.uuid for share in room.assignment.shares} if room.assignment else set()
