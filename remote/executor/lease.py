"""Which epoch an executor serves, and where what it served goes on."""

import threading
from dataclasses import dataclass

from tessera.remote.executor.refusals import Elsewhere, Refusal
from tessera.remote.protocol.greeting import Hello, Redirect


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the pool lets a lease have in ``epoch``: ``limit_bytes`` of all its sessions together, 0 for no limit, and
    how many ``sessions`` at once; none: it is over."""

    epoch: int
    limit_bytes: int
    sessions: int


class Lease:
    """An executor serves one lease, in one epoch at a time. Once it is ``fenced`` it serves nobody."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._gone: Redirect | None = None
        self._lock = threading.Lock()

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def gone(self) -> Redirect | None:
        """Where everything goes on, once it is fenced."""
        return self._gone

    def enter(self, epoch: int) -> None:
        with self._lock:
            self._epoch = epoch

    def fence(self, redirect: Redirect) -> None:
        with self._lock:
            self._gone = redirect

    def unfence(self) -> None:
        """The next executor has not begun, and will not."""
        with self._lock:
            self._gone = None

    def check(self, hello: Hello) -> None:
        """0 is the epoch of who has never been told one. Raises ``Refusal``."""
        with self._lock:
            epoch, gone = self._epoch, self._gone
        if gone is not None:
            raise Elsewhere(gone)
        if hello.epoch > epoch:
            raise Refusal("Epoch", f"epoch: found {hello.epoch}; allowed: {epoch}, which this executor has")
        if hello.epoch < epoch and hello.session:
            raise Elsewhere(Redirect(epoch))
        if 0 < hello.epoch < epoch:
            raise Refusal("Epoch", f"epoch: found {hello.epoch}, which is over; allowed: {epoch}")
