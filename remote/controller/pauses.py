"""How long what has come to nothing is put off: twice as long each time, up to a limit. Times in seconds."""

from tessera.model.gpu_leases import SERVING, Phase
from tessera.remote.controller.records import Record
from tessera.remote.controller.steps import Create, Step, Write

START = 1.0, 60.0
MOVE = 5.0, 600.0
"""The first pause and the longest. A move stops the sessions, if only for a moment."""
HEAR_S = 30.0
"""Gates come to a new controller within this."""

_Tries = dict[str, tuple[int, float]]
"""By the lease's UID: how many in a row, and when the last was."""


class Pauses:
    """Executors that were made in a row without one that served, and moves in a row that left the sessions where they
    were."""

    def __init__(self) -> None:
        self._starts: _Tries = {}
        self._moves: _Tries = {}
        self._moving: dict[str, tuple[float, float]] = {}

    def start_s(self, uid: str, now: float) -> float:
        """The first is made again at once: it may have been an accident."""
        count, at = self._starts.get(uid, (0, 0.0))
        return at + _pause_s(count - 1, *START) - now

    def move_s(self, uid: str, now: float) -> float:
        count, at = self._moves.get(uid, (0, 0.0))
        return at + _pause_s(count, *MOVE) - now

    def moving(self, uid: str, to: str, now: float) -> tuple[float, float]:
        """How long it has been known to move ``to`` an executor, empty if to none; and how long its gates may still be
        on their way to this controller, if another began that."""
        if not to:
            self._moving.pop(uid, None)
            return 0.0, 0.0
        since, heard_by = self._moving.setdefault(uid, (now, now + HEAR_S))
        return now - since, heard_by - now

    def note(self, record: Record, step: Step, now: float) -> None:
        """``step`` was carried out."""
        uid, before = record.known.uid, record.status
        match step:
            case Create(target=False):
                _count(self._starts, uid, now)
            case Write(after) if after.next and not before.next:
                self._moving[uid] = now, now
            case Write(after) if after.phase in SERVING:
                self._starts.pop(uid, None)
                if after.moved:
                    self._moves.pop(uid, None)
                elif before.phase is Phase.MIGRATING:
                    _count(self._moves, uid, now)

    def keep(self, uids: set[str]) -> None:
        """Those of other leases are over."""
        self._starts = {uid: tries for uid, tries in self._starts.items() if uid in uids}
        self._moves = {uid: tries for uid, tries in self._moves.items() if uid in uids}
        self._moving = {uid: times for uid, times in self._moving.items() if uid in uids}


def _count(tries: _Tries, uid: str, now: float) -> None:
    tries[uid] = tries.get(uid, (0, 0.0))[0] + 1, now


def _pause_s(count: int, first: float, longest: float) -> float:
    return min(first * 2 ** (count - 1), longest) if count > 0 else 0.0
