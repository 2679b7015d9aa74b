"""The shapes of REST answers that are not states themselves: pages of a list, the pool's summary, errors."""

import base64
import binascii
from collections.abc import Iterable
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tessera.dashboard.feed import Source
from tessera.dashboard.states import GpuState, LeaseState, NodeState, PodState, Totals

T = TypeVar("T")
MAX_LIMIT = 1000


class BadContinue(ValueError):
    """The ``continue`` token is not one of ours."""


class Page(BaseModel, Generic[T]):
    """A part of a list in order of its keys. ``continue`` asks for the next part; empty at the end."""

    model_config = ConfigDict(populate_by_name=True)
    items: list[T]
    total: int
    continue_: str = Field("", alias="continue")


class Pool(BaseModel):
    """The pool in sum, at ``version``."""

    version: str
    synced: bool
    source: Source
    totals: Totals


class NodeDetail(BaseModel):
    """A node with its GPUs, the pods there that hold slices, and the leases of its GPUs and of its pods."""

    node: NodeState
    gpus: list[GpuState]
    pods: list[PodState]
    leases: list[LeaseState]


class ErrorBody(BaseModel):
    """One stable word and one sentence."""

    code: str
    message: str


class Failure(BaseModel):
    error: ErrorBody


def page_of(found: Iterable[tuple[str, T]], limit: int, after: str) -> Page[T]:
    """At most ``limit`` of ``found``, which is in order of its keys, beginning after the key that ``after`` encodes."""
    rows = list(found)
    key = _decode(after) if after else None
    rest = [row for row in rows if key is None or row[0] > key]
    more = _encode(rest[limit - 1][0]) if len(rest) > limit else ""
    return Page[T](items=[value for _, value in rest[:limit]], total=len(rows), **{"continue": more})


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise BadContinue(f"continue: found {token!r}; allowed: the value of the previous answer") from None
