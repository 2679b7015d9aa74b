"""Room that is being made for a waiting pod goes to that pod.

Whoever makes the room says for whom in the waiting pod's ``status.nominatedNodeName``, Kubernetes' own word for it;
the leader's own moves say it here directly. Until the pod is bound, all that becomes free of what it needs there is
held for it, so that neither a newcomer nor the pod that was moved away takes it. kube-scheduler empties the field at
each attempt that fails, so the word holds for a while after it was last seen, and it always ends.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tessera.kube.reflector import Change, Deleted, Replaced, Upserted
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine

KEPT_S = 60.0
"""How long a nomination outlives the field that said it."""


@dataclass(slots=True)
class _Nomination:
    pod: Pod
    node: str
    until: float


class Nominations:
    """Who is to go where. ``clock`` answers seconds that never go back."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock
        self._known: dict[str, _Nomination] = {}

    def nominate(self, pod: Pod, node: str, seconds: float) -> bool:
        """Keeps room on ``node`` for ``pod``; answers whether all of it is there already."""
        self._known[pod.uid] = _Nomination(pod, node, self._clock() + seconds)
        return self._engine.keep_room(pod, node)

    def withdraw(self, uid: str) -> None:
        """What was kept for the pod is free."""
        if self._known.pop(uid, None) is not None:
            self._engine.keeps.pop(uid, None)
            self._engine.undo(uid)

    def observe(self, change: Change[Pod]) -> None:
        """Takes one change of the pods, after the engine has."""
        match change:
            case Replaced(objects):
                for pod in objects:
                    self._observe(pod)
            case Upserted(pod):
                self._observe(pod)
            case Deleted(gone):
                self.withdraw(gone.uid)
        self.settle()

    def settle(self) -> None:
        """Keeps what has become free, and ends what is past its time. To be called after room was freed."""
        now = self._clock()
        for uid, nomination in list(self._known.items()):
            if nomination.until <= now:
                self.withdraw(uid)
            else:
                self._engine.keep_room(nomination.pod, nomination.node)

    def _observe(self, pod: Pod) -> None:
        known = self._known.get(pod.uid)
        if pod.node or pod.ended or pod.deleting:
            self._known.pop(pod.uid, None)
        elif pod.nominated:
            self._known[pod.uid] = _Nomination(pod, pod.nominated, math.inf)
        elif known is not None and known.until == math.inf:
            known.until = self._clock() + KEPT_S
