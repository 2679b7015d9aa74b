"""Events on objects, for ``kubectl describe``: counted, rate limited, and never in anybody's way.

``record`` only queues; it neither blocks nor raises. The same event on the same object raises a count instead of
making another object, as kubectl expects. A talkative object is silenced (a burst, then one in a while). A rush is sent
slowly, so that it does not take the API server's time from what the events tell of; a full queue drops the newest, and
what the API server refuses is dropped: events are news, not state.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from tessera.kube import wire
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.resources import EVENTS, Resource

_log = structlog.get_logger(__name__)
QUEUE = 10_000
RUSH, SENT_PER_S = 30.0, 10.0
"""So many are sent at once, then so many a second."""
REMEMBERED = 4096
BURST = 25.0
REFILL_PER_S = 1.0 / 60.0
MAX_MESSAGE = 1024


def reference(resource: Resource[Any], obj: Any) -> wire.ObjectReference:
    """What an event is about: a Struct with metadata, or a dictionary."""
    if isinstance(obj, dict):
        meta = obj.get("metadata") or {}
        namespace, name, uid = meta.get("namespace", ""), meta.get("name", ""), meta.get("uid", "")
    else:
        namespace, name, uid = obj.metadata.namespace, obj.metadata.name, obj.metadata.uid
    return wire.ObjectReference(
        api_version=resource.api_version, kind=resource.kind, namespace=namespace, name=name, uid=uid
    )


@dataclass(frozen=True, slots=True)
class _News:
    regarding: wire.ObjectReference
    type: str
    reason: str
    message: str
    stamp: str

    @property
    def key(self) -> str:
        about = self.regarding
        text = "\0".join((about.kind, about.namespace, about.name, about.uid, self.type, self.reason, self.message))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Run ``run`` as a task; ``dropped`` counts what was not told."""

    def __init__(
        self,
        gateway: Gateway,
        component: str,
        *,
        host: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gateway = gateway
        self._source = wire.EventSource(component=component, host=host)
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._rush = _Bucket(RUSH, clock())
        self._queue: asyncio.Queue[_News] = asyncio.Queue(QUEUE)
        self._sent: OrderedDict[str, wire.Event] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self.dropped = 0

    def record(self, regarding: wire.ObjectReference, type: str, reason: str, message: str) -> None:
        """``type`` is ``Normal`` or ``Warning``, ``reason`` a CamelCase word. Call it in the event loop's thread."""
        if not self._allowed(f"{regarding.namespace}/{regarding.name}/{regarding.uid}"):
            self.dropped += 1
            return
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            self._queue.put_nowait(_News(regarding, type, reason, message[:MAX_MESSAGE], stamp))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Sends what is queued, until cancelled."""
        while True:
            news = await self._queue.get()
            try:
                await self._wait_turn()
                await self._send(news)
            except KubeError as error:
                self.dropped += 1
                _log.info("event dropped", reason=news.reason, regarding=news.regarding.name, error=str(error))
            finally:
                self._queue.task_done()

    async def _wait_turn(self) -> None:
        bucket, now = self._rush, self._clock()
        bucket.tokens = min(RUSH, bucket.tokens + (now - bucket.at) * SENT_PER_S) - 1.0
        bucket.at = now
        if bucket.tokens < 0:
            await self._sleep(-bucket.tokens / SENT_PER_S)

    async def flush(self) -> None:
        """Waits until ``run`` has sent everything that was queued."""
        await self._queue.join()

    async def _send(self, news: _News) -> None:
        sent = self._sent.get(news.key)
        if sent is not None and await self._repeat(sent, news):
            return
        event = self._event(news)
        try:
            self._remember(news.key, await self._gateway.create(EVENTS, event))
        except ApiError as error:
            if not error.already_exists:
                raise
            found = await self._gateway.get(EVENTS, event.metadata.name, namespace=event.metadata.namespace)
            await self._repeat(found, news)

    async def _repeat(self, sent: wire.Event, news: _News) -> bool:
        """Counts the event once more; ``False`` if it has expired meanwhile."""
        patch = {"count": (sent.count or 1) + 1, "lastTimestamp": news.stamp}
        try:
            written = await self._gateway.merge_patch(
                EVENTS, sent.metadata.name, patch, namespace=sent.metadata.namespace
            )
        except ApiError as error:
            if not error.not_found:
                raise
            self._sent.pop(news.key, None)
            return False
        self._remember(news.key, written)
        return True

    def _event(self, news: _News) -> wire.Event:
        """The name holds the key and the reporter, so that a restarted process finds and counts on its own event."""
        about = news.regarding
        who = hashlib.sha256(f"{self._source.component}/{self._source.host}".encode()).hexdigest()[:6]
        metadata = wire.ObjectMeta(name=f"{about.name[:200]}.{news.key}{who}", namespace=about.namespace or "default")
        return wire.Event(
            metadata=metadata,
            involved_object=about,
            reason=news.reason,
            message=news.message,
            type=news.type,
            count=1,
            first_timestamp=news.stamp,
            last_timestamp=news.stamp,
            source=self._source,
            reporting_component=self._source.component,
            reporting_instance=self._source.host,
        )

    def _remember(self, key: str, event: wire.Event) -> None:
        self._sent[key] = event
        self._sent.move_to_end(key)
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _allowed(self, about: str) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(about, _Bucket(BURST, now))
        self._buckets.move_to_end(about)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) * REFILL_PER_S)
        bucket.at = now
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True
