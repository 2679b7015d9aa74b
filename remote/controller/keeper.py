"""Works on leases, one step after another, as news of them come: many at once, each by one worker."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import msgspec
import structlog

from tessera.kube.errors import ApiError, KubeError
from tessera.remote.controller.acting import Acting
from tessera.remote.controller.book import Book
from tessera.remote.controller.deciding import Times, next_step
from tessera.remote.controller.moving import silenced
from tessera.remote.controller.pauses import Pauses
from tessera.remote.controller.records import Client, Executor, Record
from tessera.remote.controller.steps import Wait

log = structlog.get_logger()

WORKERS = 16
RETRY_S = 1.0
LOOK_S = 10.0
"""Each lease is looked at this often, whatever the watches tell."""


class Keeper:
    """``may_act``: whether a write sent now is this leader's. ``deadline_s``: how long sessions may take to leave a GPU
    that they are to leave, 0: for ever."""

    def __init__(
        self, acting: Acting, may_act: Callable[[], bool], clock: Callable[[], float], deadline_s: float = 0.0
    ) -> None:
        self._acting, self._may_act, self._clock = acting, may_act, clock
        self._due: dict[str, None] = {}
        self._busy: set[str] = set()
        self._news = asyncio.Event()
        self._first_seen: dict[str, tuple[str, float]] = {}
        self._pauses = Pauses(deadline_s)

    def touch(self, key: str) -> None:
        """Something about this lease is new."""
        self._due[key] = None
        self._news.set()

    async def run(self, book: Book) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look(book))
            for _ in range(WORKERS):
                group.create_task(self._work(book))
        raise AssertionError("its tasks do not end")

    async def _look(self, book: Book) -> None:
        """Leases that no event speaks of, and executors whose lease is gone."""
        while True:
            known = list(book.leases())
            for record in known:
                self.touch(record.known.key)
            self._remember({record.known.uid for record in known})
            await self._sweep(book)
            await asyncio.sleep(LOOK_S if self._may_act() else RETRY_S)

    async def _work(self, book: Book) -> None:
        while True:
            key = next((key for key in self._due if key not in self._busy), None)
            if key is None:
                self._news.clear()
                await self._news.wait()
                continue
            del self._due[key]
            self._busy.add(key)
            try:
                await self._handle(book, key)
            except (KubeError, msgspec.DecodeError) as error:
                quiet = isinstance(error, ApiError) and (error.conflict or error.not_found)
                (log.debug if quiet else log.warning)("lease put off", lease=key, error=str(error))
                self._touch_later(key, RETRY_S)
            finally:
                self._busy.discard(key)
                self._news.set()

    async def _handle(self, book: Book, key: str) -> None:
        record = book.lease(key)
        if record is None or not self._may_act():
            return
        uid, now = record.known.uid, self._clock()
        since = self._first_with(record, now)
        client = Client.BOUND if book.bound(record) else await self._acting.client(record)
        executors, heard = await self._seen(book, record), book.heard(uid)
        pauses = self._pauses
        times = Times(
            now - since, pauses.start_s(uid, now), pauses.move_s(record, now),
            *pauses.moving(uid, record.status.next, now),
            pauses.word_s(uid, silenced(record, executors, heard), now), pauses.overdue(record, now),
        )  # fmt: skip
        step = next_step(record, executors, client, heard, times)
        if isinstance(step, Wait):
            if step.seconds is not None:
                self._touch_later(key, step.seconds + 0.01)
            return
        if self._may_act():
            await self._acting.carry_out(record, step)
            self._pauses.note(record, step, now)

    def _first_with(self, record: Record, now: float) -> float:
        """When the lease was first seen with the client that it has."""
        pod, at = self._first_seen.get(record.known.uid, (None, now))
        if pod != record.known.pod_uid:
            at = now
            self._first_seen[record.known.uid] = record.known.pod_uid, now
        return at

    async def _seen(self, book: Book, record: Record) -> list[Executor]:
        """The watch of pods may be behind that of leases: an executor that it does not show may be there."""
        found = book.executors_of(record.known.uid)
        wanted = {record.status.executor_uid, record.status.next_uid} - {""}
        if wanted - {executor.uid for executor in found}:
            return await self._acting.executors(record)
        return found

    async def _sweep(self, book: Book) -> None:
        for executor in list(book.executors()):
            if executor.deleting or book.by_uid(executor.lease_uid) or not self._may_act():
                continue
            try:
                if not await self._acting.leased(executor):
                    await self._acting.end(executor)
            except (KubeError, msgspec.DecodeError) as error:
                log.warning("executor not swept", executor=executor.name, error=str(error))

    def _remember(self, uids: set[str]) -> None:
        self._first_seen = {uid: seen for uid, seen in self._first_seen.items() if uid in uids}
        self._pauses.keep(uids)

    def _touch_later(self, key: str, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.touch, key)
