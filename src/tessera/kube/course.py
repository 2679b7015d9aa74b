"""The course of a reflector as a pure state machine: what to ask next, given what was answered so far.

No I/O and no clock, so every order of pages, events, disconnects and expiries can be tried in a test. Guarantees:
changes come out in the server's order; after a disconnect the watch resumes where it stopped, so nothing is lost or
doubled; where the server has forgotten that place (410) the whole collection is listed anew and replaces the old.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import msgspec

from tessera.kube import wire
from tessera.kube.errors import ApiError, KubeError, event_error
from tessera.kube.gateway import PAGE, Page
from tessera.kube.resources import Resource

T = TypeVar("T")
BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 15.0
WATCH_S = (300, 600)
"""Bounds of a watch's life; drawn anew each time, so that a fleet does not come back at once."""
PATIENCE = 5
"""After so many failures in a row a watch is not resumed any more; the collection is listed anew."""
HASTY_S = 1.0
"""A watch that ends sooner and said nothing counts as a failure, or it would be asked for in a tight loop."""


@dataclass(frozen=True, slots=True)
class Replaced(Generic[T]):
    """The whole collection as it stands: everything not in it is gone."""

    objects: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Upserted(Generic[T]):
    """Added or changed."""

    object: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """Gone; this is its last state."""

    object: T


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of the collection, in place of ``Replaced`` where a key is known: each object as it stands.

    With the last page come the ``keys`` of all pages: everything not among them is gone.
    """

    objects: tuple[T, ...]
    keys: frozenset[str] | None = None


Change = Replaced[T] | Upserted[T] | Deleted[T]
Told = Change[T] | Listed[T]
"""What a sink hears that takes a list page by page."""


@dataclass(frozen=True, slots=True)
class AskPage:
    """List a page; ``limit`` 0 asks for everything at once."""

    limit: int
    continue_token: str


@dataclass(frozen=True, slots=True)
class AskWatch:
    resource_version: str
    timeout_s: int


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = AskPage | AskWatch | Pause


class _Phase(Enum):
    LIST = auto()
    WATCH = auto()


class _Envelope(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Marked(msgspec.Struct):
    metadata: wire.ListMeta = wire.ListMeta()


_ENVELOPES = msgspec.json.Decoder(_Envelope)
_MARKS = msgspec.json.Decoder(_Marked)


def as_decoded(obj: Any) -> Any:
    """The object itself."""
    return obj


class Course(Generic[T]):
    """Call ``next`` for what to do, then tell the result by ``page``, ``line``, ``closed`` or ``failed``.

    ``keep`` makes what the sink hears of each decoded object, at once. With a ``key`` the sink hears of each page
    when it comes (``Listed``), so that a long list is never held whole.
    """

    def __init__(
        self,
        resource: Resource[Any],
        rng: random.Random,
        *,
        limit: int = PAGE,
        keep: Callable[[Any], T] = as_decoded,
        key: Callable[[T], str] | None = None,
    ) -> None:
        self._resource = resource
        self._keep = keep
        self._key = key
        self._keys: set[str] = set()
        self._rng = rng
        self._limit = limit
        self._phase = _Phase.LIST
        self._pages: list[T] = []
        self._continue = ""
        self._expired_pages = 0
        self._failures = 0
        self._pause_due = False
        self._heard = False
        self.resource_version = ""

    def next(self) -> Step:
        """What to do now."""
        if self._pause_due:
            self._pause_due = False
            return Pause(self._backoff_s())
        if self._phase is _Phase.LIST:
            return AskPage(self._limit if self._expired_pages < 2 else 0, self._continue)
        self._heard = False
        return AskWatch(self.resource_version, self._rng.randint(*WATCH_S))

    def page(self, page: Page[Any]) -> Replaced[T] | Listed[T] | None:
        """A page came; the last one completes the collection."""
        self._pages.extend(map(self._keep, page.items))
        self._continue = page.continue_token
        if not self._continue:
            self._expired_pages = 0
            self._phase = _Phase.WATCH
            self.resource_version = page.resource_version
        if self._key is not None:
            return self._listed(self._key)
        return None if self._continue else Replaced(self._told())

    def _listed(self, key: Callable[[T], str]) -> Listed[T]:
        objects = self._told()
        self._keys.update(map(key, objects))
        if self._continue:
            return Listed(objects)
        keys, self._keys = frozenset(self._keys), set()
        return Listed(objects, keys)

    def _told(self) -> tuple[T, ...]:
        objects = tuple(self._pages)
        self._pages.clear()
        return objects

    def line(self, line: bytes) -> Upserted[T] | Deleted[T] | None:
        """A watch event came. Raises ``ApiError`` for an ERROR event, ``msgspec.DecodeError`` for nonsense."""
        envelope = _ENVELOPES.decode(line)
        if envelope.type == "ERROR":
            raise event_error(bytes(envelope.object))
        if envelope.type == "BOOKMARK":
            self._advance(_MARKS.decode(envelope.object).metadata.resource_version)
            return None
        if envelope.type not in ("ADDED", "MODIFIED", "DELETED"):
            raise msgspec.DecodeError(f"watch event of unknown type {envelope.type!r}")
        found = self._resource.decoder.decode(envelope.object)
        self._advance(_version_of(found))
        kept = self._keep(found)
        return Deleted(kept) if envelope.type == "DELETED" else Upserted(kept)

    def closed(self, lasted_s: float) -> None:
        """The server or the network ended the watch: it is resumed."""
        if self._heard or lasted_s >= HASTY_S:
            self._failures = 0
        else:
            self._fail()

    def failed(self, error: KubeError | msgspec.DecodeError) -> None:
        """The list or the watch failed."""
        gone = isinstance(error, ApiError) and error.gone
        if self._phase is _Phase.LIST:
            self._expired_pages += gone
            self._restart_list(immediately=gone)
        elif gone:
            self._restart_list(immediately=True)
        elif isinstance(error, msgspec.DecodeError) or self._hopeless(error):
            self._restart_list(immediately=False)
        else:
            self._fail()

    def _hopeless(self, error: KubeError) -> bool:
        """Whether resuming will not do: a firm refusal, or one after the other (storage restored from a backup)."""
        if not isinstance(error, ApiError) or error.too_many_requests:
            return False
        return not error.temporary or self._failures >= PATIENCE

    def _restart_list(self, *, immediately: bool) -> None:
        """Lists from the start. Even an expiry waits if it is not the first trouble in a row."""
        self._phase = _Phase.LIST
        self._pages.clear()
        self._keys.clear()
        self._continue = ""
        pause = not immediately or self._failures > 0
        self._fail()
        self._pause_due = pause

    def _fail(self) -> None:
        self._failures += 1
        self._pause_due = True

    def _advance(self, resource_version: str) -> None:
        self._heard = True
        self._failures = 0
        if resource_version:
            self.resource_version = resource_version

    def _backoff_s(self) -> float:
        """Exponential back-off with full jitter."""
        ceiling = min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2.0 ** min(self._failures, 16))
        return self._rng.uniform(0.0, ceiling)


def _version_of(obj: Any) -> str:
    if isinstance(obj, dict):
        return str((obj.get("metadata") or {}).get("resourceVersion", ""))
    return str(obj.metadata.resource_version)
