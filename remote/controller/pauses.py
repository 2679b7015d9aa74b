"""How long what has come to nothing is put off: twice as long each time, up to a limit; and what has its time at all.
Times in seconds."""

from tessera.model.gpu_leases import SERVING, Phase, Slice
from tessera.remote.controller.records import Record
from tessera.remote.controller.steps import Create, Step, Write

START = 1.0, 60.0
MOVE = 5.0, 600.0
"""The first pause and the longest. A move stops the sessions, if only for a moment."""
HEAR_S = 30.0
"""Gates come to a new controller within this."""
WORD_S = 3.0
"""What a gate has to say is here within this."""

_Tries = dict[str, tuple[int, float]]
"""By the lease's UID: how many in a row, and when the last was."""


class Pauses:
    """Executors that were made in a row without one that served, and moves in a row, to one target, that left the
    sessions where they were. ``deadline_s``: how long they may take to leave at all; 0: for ever."""

    def __init__(self, deadline_s: float = 0.0) -> None:
        self._deadline_s = deadline_s
        self._starts: _Tries = {}
        self._moves: _Tries = {}
        self._targets: dict[str, Slice] = {}
        self._asked: dict[str, float] = {}
        self._moving: dict[str, tuple[float, float]] = {}
        self._silenced: dict[str, float] = {}

    def start_s(self, uid: str, now: float) -> float:
        """The first is made again at once: it may have been an accident."""
        count, at = self._starts.get(uid, (0, 0.0))
        return at + _pause_s(count - 1, *START) - now

    def move_s(self, record: Record, now: float) -> float:
        """Another target may be better than the one that was tried."""
        uid = record.known.uid
        if record.known.target and self._targets.get(uid) != record.known.target:
            return 0.0
        count, at = self._moves.get(uid, (0, 0.0))
        return at + _pause_s(count, *MOVE) - now

    def overdue(self, record: Record, now: float) -> bool:
        """Whether the lease is to leave its slice since longer than the deadline."""
        uid = record.known.uid
        if record.known.target is None:
            self._asked.pop(uid, None)
            return False
        return 0 < self._deadline_s <= now - self._asked.setdefault(uid, now)

    def word_s(self, uid: str, silenced: bool, now: float) -> float:
        """How long the next executor's word may be on its way, ``silenced`` as the source is or is not."""
        if not silenced:
            self._silenced.pop(uid, None)
            return 0.0
        return self._silenced.setdefault(uid, now) + WORD_S - now

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
                    self._failed(record, now)

    def keep(self, uids: set[str]) -> None:
        """Those of other leases are over."""
        self._starts = {uid: tries for uid, tries in self._starts.items() if uid in uids}
        self._moves = {uid: tries for uid, tries in self._moves.items() if uid in uids}
        self._targets = {uid: target for uid, target in self._targets.items() if uid in uids}
        self._asked = {uid: at for uid, at in self._asked.items() if uid in uids}
        self._moving = {uid: times for uid, times in self._moving.items() if uid in uids}
        self._silenced = {uid: at for uid, at in self._silenced.items() if uid in uids}

    def _failed(self, record: Record, now: float) -> None:
        uid, target = record.known.uid, record.known.target
        if target and self._targets.get(uid) != target:
            self._targets[uid] = target
            self._moves.pop(uid, None)
        _count(self._moves, uid, now)


def _count(tries: _Tries, uid: str, now: float) -> None:
    tries[uid] = tries.get(uid, (0, 0.0))[0] + 1, now


def _pause_s(count: int, first: float, longest: float) -> float:
    return min(first * 2 ** (count - 1), longest) if count > 0 else 0.0
