"""Keeps a sink in step with one collection of the API server, for as long as ``run`` runs.

Lists the collection once, then follows its changes; disconnects, expiries and a restarted server are lived through
(``course`` says how). The sink hears everything in order, in the event loop's thread.

A list names no resource version: the API server answers as of now, not from a cache that may be older than what
another process, such as a former leader, has written. While one page is taken in, the server prepares the next.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from tessera.kube.course import (
    AskPage,
    AskWatch,
    Change,
    Course,
    Deleted,
    Listed,
    Pause,
    Replaced,
    Told,
    Upserted,
    as_decoded,
)
from tessera.kube.errors import ApiError, KubeError, Unreachable
from tessera.kube.gateway import Gateway, Page
from tessera.kube.resources import Resource

S = TypeVar("S")
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class Reflector(Generic[T]):
    """``sink`` gets ``Replaced``, ``Upserted`` and ``Deleted``; if it raises, ``run`` ends with that error.

    ``keep`` cuts each object down to what ``sink`` is told of; without it ``T`` is the resource's own type. With a
    ``key``, which no two objects share, ``sink`` must take ``Told``: it gets the pages of a list one by one.
    """

    def __init__(
        self,
        gateway: Gateway,
        resource: Resource[S],
        sink: Callable[[Change[T]], None],
        *,
        namespace: str = "",
        keep: Callable[[S], T] = as_decoded,
        key: Callable[[T], str] | None = None,
        label_selector: str = "",
        field_selector: str = "",
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        limit: int = 500,
    ) -> None:
        self._gateway = gateway
        self._resource = resource
        self._sink: Callable[[Any], None] = sink
        self._where = {"namespace": namespace, "label_selector": label_selector, "field_selector": field_selector}
        self._clock = clock
        self._sleep = sleep
        self._course: Course[T] = Course(resource, rng or random.Random(), limit=limit, keep=keep, key=key)
        self._ahead: tuple[AskPage, asyncio.Task[Page[Any]]] | None = None
        self._synced = asyncio.Event()
        self._heard_at = -math.inf

    @property
    def synced(self) -> bool:
        """Whether the sink has had the whole collection once."""
        return self._synced.is_set()

    @property
    def age_s(self) -> float:
        """Seconds since the server last said anything (a list, an event, a bookmark); infinite before the first."""
        return self._clock() - self._heard_at

    @property
    def resource_version(self) -> str:
        """How far the sink has come."""
        return self._course.resource_version

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                match self._course.next():
                    case Pause(seconds):
                        await self._sleep(seconds)
                    case AskPage() as step:
                        await self._list(step)
                    case AskWatch() as step:
                        await self._watch(step)
        finally:
            if self._ahead is not None:
                self._ahead[1].cancel()

    async def _list(self, step: AskPage) -> None:
        try:
            page = await self._page(step)
        except (KubeError, msgspec.DecodeError) as error:
            self._report("list failed", error)
            self._course.failed(error)
            return
        self._heard_at = self._clock()
        if page.continue_token:
            following = replace(step, continue_token=page.continue_token)
            self._ahead = following, asyncio.create_task(self._asked(following))
            await asyncio.sleep(0)  # lets the task send its request
        if change := self._course.page(page):
            self._sink(change)
            if not page.continue_token:
                self._synced.set()

    async def _page(self, step: AskPage) -> Page[Any]:
        """What was asked for ahead, if it is this."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == step:
            return await ahead[1]
        return await self._asked(step)

    async def _asked(self, step: AskPage) -> Page[Any]:
        return await self._gateway.list_page(
            self._resource, limit=step.limit, continue_token=step.continue_token, **self._where
        )

    async def _watch(self, step: AskWatch) -> None:
        began = self._clock()
        try:
            async with self._gateway.watch(
                self._resource, step.resource_version, timeout_s=step.timeout_s, **self._where
            ) as lines:
                async for line in lines:
                    change = self._course.line(line)
                    self._heard_at = self._clock()
                    if change is not None:
                        self._sink(change)
        except Unreachable as error:
            self._report("watch interrupted", error)
            self._course.closed(self._clock() - began)
        except (ApiError, msgspec.DecodeError) as error:
            self._report("watch failed", error)
            self._course.failed(error)
        else:
            self._course.closed(self._clock() - began)

    def _report(self, event: str, error: Exception) -> None:
        quiet = isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.gone)
        (_log.info if quiet else _log.warning)(event, resource=self._resource.plural, error=str(error))


__all__ = ["Change", "Deleted", "Listed", "Reflector", "Replaced", "Told", "Upserted"]
