"""The sessions that live, and what is known of those that have ended."""

import contextlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

import structlog

from tessera.remote.executor import orders
from tessera.remote.executor.forks import Ended, ForkServer
from tessera.remote.executor.meters import SLOTS, Figures, Meters
from tessera.remote.executor.orders import Verb
from tessera.remote.executor.processes import Offer, Process
from tessera.remote.executor.quota import Quota
from tessera.remote.executor.refusals import Refusal

log = structlog.get_logger()

END_S = 5.0
"""How long a process may take to end once it is told; then it is killed."""
REMEMBERED = 64
"""Sessions that have ended of which it is known why."""


class Sessions:
    """Those that live, by name. A name lets its holder go on with the session: nobody else is told."""

    def __init__(self, offer: Offer, forks: ForkServer) -> None:
        self.offer, self._forks = offer, forks
        self._found: dict[str, Process] = {}
        self._moving: frozenset[str] = frozenset()
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()
        self._stopped = self._frozen = False
        self._quota, self._meters = Quota(offer.limit_bytes if offer.together else 0, SLOTS), Meters()

    def __len__(self) -> int:
        return len(self._found)

    def find(self, name: str) -> Process:
        """Raises ``Refusal``."""
        with self._lock:
            if name in self._moving:
                raise Refusal("Moving", "session: found one that is being moved; allowed: to come again")
            if name in self._found:
                return self._found[name]
            why = self._ended.get(name, "")
            raise Refusal("SessionLost", "session: found one that is not here any more" + (f": {why}" if why else ""))

    def open(self, asked_bytes: int, epoch: int) -> Process:
        """A new one. Raises ``Refusal``."""
        most = self.offer.limit_bytes
        if most and asked_bytes > most:
            raise Refusal("Memory", f"gpu-mem: found {asked_bytes} bytes; allowed: up to {most}")
        with self._lock:
            if self._stopped:
                raise Refusal("Stopping", "session: found none; this executor ends")
            if self._frozen:
                raise Refusal("Moving", "session: found a move under way; allowed: to come again")
            if len(self._found) >= self.offer.sessions:
                raise Refusal("Full", f"sessions: found {len(self._found)}, as many as are allowed")
            name = secrets.token_hex(16)
            try:
                process = self._started(name, asked_bytes or most, epoch, self._slot(name))
            except Refusal:
                self._quota.give_back(name)
                raise
            self._keep(process)
        return process

    def begin(self, name: str, limit_bytes: int, epoch: int) -> Process:
        """One that is to be restored, and not to be found before ``adopt``. Raises ``Refusal``."""
        return self._started(name, limit_bytes, epoch, restore=True)

    def freeze(self) -> list[Process]:
        """No new ones until ``thaw``, and those that are moved meanwhile are known to be: answers these."""
        with self._lock:
            self._frozen, self._moving = True, frozenset(self._found)
            return list(self._found.values())

    def thaw(self) -> None:
        with self._lock:
            self._frozen, self._moving = False, frozenset()

    def adopt(self, processes: Iterable[Process], epoch: int) -> None:
        """They serve now, in the place of those of the same name."""
        with self._lock:
            for process in processes:
                with contextlib.suppress(OSError):  # it is found to have ended, as any
                    process.order(Verb.SERVE, orders.SERVED.pack(epoch, self._slot(process.name)))
                self._keep(process)

    @property
    def frozen(self) -> bool:
        return self._frozen

    def limit(self, limit_bytes: int, sessions: int | None = None) -> None:
        """What a new one gets at most from now on, and how many there may be."""
        with self._lock:
            most = self.offer.sessions if sessions is None else sessions
            if self.offer.together:
                self._quota.limit(limit_bytes)
            self.offer = replace(self.offer, limit_bytes=limit_bytes, sessions=min(most, SLOTS))

    def cut(self, why: str) -> None:
        """Ends all that live now, at once."""
        with self._lock:
            processes = list(self._found.values())
            self._found.clear()
            for process in processes:
                self._ended_because(process.name, why)
                process.cut()

    def figures(self) -> list[Figures]:
        """What each has done so far."""
        with self._lock:
            return self._meters.figures(self._quota.taken)

    def stop(self) -> None:
        """Ends all, and waits until they have ended."""
        with self._lock:
            self._stopped = True
            left = list(self._found.values())
        for process in left:
            process.let_go()
        deadline = time.monotonic() + END_S
        for process in left:
            with contextlib.suppress(TimeoutError):
                process.child.wait(max(deadline - time.monotonic(), 0))
        self._forks.close()

    def _slot(self, name: str) -> int:
        """Raises ``Refusal``."""
        try:
            return self._quota.take(name)
        except IndexError:
            raise Refusal("Full", f"sessions: found {SLOTS}, as many as an executor has") from None

    def _started(self, name: str, limit_bytes: int, epoch: int, slot: int = 0, *, restore: bool = False) -> Process:
        passed = [self._meters.descriptor, *([self._quota.descriptor] if self.offer.together else [])]
        try:
            return Process(self._forks, name, self.offer, limit_bytes, epoch, passed, slot, restore=restore)
        except OSError as error:
            raise Refusal("Unavailable", f"session: cannot be started: {error.strerror}") from None

    def _keep(self, process: Process) -> None:
        self._found[process.name] = process
        process.child.ended.add_done_callback(lambda ended: self._over(process, ended.result()))

    def _over(self, process: Process, ended: Ended) -> None:
        with self._lock:
            if self._found.get(process.name, process) is process:
                self._meters.clear(self._quota.give_back(process.name))
            if self._found.get(process.name) is process:
                del self._found[process.name]
                self._ended_because(process.name, process.last_words())
        with contextlib.suppress(OSError):
            process.let_go()
        log.info("session ended", session=process.name[:8], status=ended.status)

    def _ended_because(self, name: str, why: str) -> None:
        self._ended[name] = why
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
