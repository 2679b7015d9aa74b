"""The lists of nodes that kube-scheduler sends, by the rows that they have in the ledger.

A list of thousands of names comes twice for each pod: to filter, and, what filter left of it, to prioritize. Both are
known by their bytes for as long as no node gets or loses its row; what filter answers is remembered before
kube-scheduler asks about it. Answers are put together from parts that are encoded once for a node.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from tessera.model.ledger import Bools, Ints, Ledger
from tessera.reasons import Reason
from tessera.scheduler.name_lists import NameTable

Scores = NDArray[np.int8]
_KEPT = 16
"""How many lists are remembered; one of 5,000 nodes takes half a megabyte."""
_read = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode
_NO_NODES = b"[]"


class Offer:
    """Nodes that are asked about, in the asker's order. ``rows`` holds -1 for those that have published no GPUs."""

    __slots__ = ("_known", "_names", "_raw", "rows", "template")

    def __init__(self, rows: Ints, names: list[str] | None = None, raw: bytes = b"") -> None:
        self.rows, self._names, self._raw = rows, names, raw
        self._known = bool((rows >= 0).all())
        self.template: tuple[bytes, Ints] | None = None

    @property
    def names(self) -> list[str]:
        if self._names is None:
            self._names = _read(self._raw)
        return self._names

    @property
    def raw(self) -> bytes:
        """The names as JSON."""
        if not self._raw:
            self._raw = _encode(self._names)
        return self._raw

    @property
    def all_known(self) -> bool:
        """Whether all of them have rows."""
        return self._known

    def mask(self, ledger: Ledger, kept: Bools | None = None) -> Bools:
        """By ledger row: whether the node is offered, and among those ``kept`` of the offer."""
        rows = self.rows if kept is None else self.rows[kept]
        out = np.zeros(len(ledger.present), np.bool_)
        out[rows if self._known else rows[rows >= 0]] = True
        return out

    def among(self, mask: Bools) -> Bools:
        """``mask``, which is by ledger row, in the order of the offer."""
        return mask[self.rows] if self._known else mask[self.rows] & (self.rows >= 0)


def offer_of(ledger: Ledger, names: Sequence[str]) -> Offer:
    """The offer of ``names``, for one question only."""
    return Offer(_rows(ledger, names), list(names))


@dataclass(frozen=True, slots=True)
class Filtered:
    """Of each node offered, in that order, whether it can hold the pod.

    If none can, why not: of each node, and of the cluster. ``failed`` are those where leaving pods might help.
    """

    offer: Offer
    kept: Bools
    failed: dict[str, str] = field(default_factory=dict)
    unresolvable: dict[str, str] = field(default_factory=dict)
    reason: Reason | None = None

    @property
    def nodes(self) -> list[str]:
        """The names of those that can."""
        return [name for name, kept in zip(self.offer.names, self.kept.tolist(), strict=True) if kept]


def refused_by_all(offer: Offer, reason: Reason) -> Filtered:
    """No node of ``offer``, for ``reason``, and no leaving pod would change that."""
    unresolvable = dict.fromkeys(offer.names, reason.text)
    return Filtered(offer, np.zeros(len(offer.rows), np.bool_), {}, unresolvable, reason)


class Offers:
    """The lists seen lately, and the parts of answers by ledger row."""

    def __init__(self) -> None:
        self._layout = -1
        self._seen: OrderedDict[bytes, Offer] = OrderedDict()

    def of(self, ledger: Ledger, raw: bytes) -> Offer:
        """The offer whose JSON is ``raw``; raises ``msgspec.MsgspecError`` if that is no list of names."""
        self._follow(ledger)
        found = self._seen.get(raw)
        if found is None:
            rows = self._table.rows(raw)
            found = self._remember(raw, Offer(_rows(ledger, _read(raw)) if rows is None else rows, None, raw))
        self._seen.move_to_end(raw)
        return found

    def part(self, ledger: Ledger, offer: Offer, kept: Bools) -> bytes:
        """Those of ``offer`` that are ``kept``, as JSON; remembered, because they are what is asked about next."""
        if kept.all():
            return offer.raw
        if not kept.any():
            return _NO_NODES
        self._follow(ledger)
        rows = offer.rows[kept]
        if len(rows) == 1 and rows[0] >= 0:  # kube-scheduler takes an only node and asks no more
            return b"[%b]" % self._quoted[rows[0]]
        if rows.min() < 0:
            return _encode([name for name, stays in zip(offer.names, kept.tolist(), strict=True) if stays])
        raw = b"[" + b",".join(self._quoted[rows].tolist()) + b"]"
        if raw not in self._seen:
            self._remember(raw, Offer(rows, None, raw))
        return raw

    def scored(self, ledger: Ledger, offer: Offer, scores: Scores) -> bytes:
        """The nodes of ``offer`` with ``scores`` from 0 to 10, in its order, as JSON."""
        if not offer.all_known or not len(scores):
            pairs = zip(offer.names, scores.tolist(), strict=True)
            return _encode([{"Host": name, "Score": score} for name, score in pairs])
        self._follow(ledger)
        template, at = offer.template or self._template(offer)
        out = np.frombuffer(template, np.uint8).copy()
        out[at] = ord("0") + scores % 10
        out[at[scores == 10] - 1] = ord("1")
        return out.tobytes()

    def _template(self, offer: Offer) -> tuple[bytes, Ints]:
        """The answer with no scores in it yet, and where the last digit of each belongs."""
        text = b"[" + b",".join(self._scored[offer.rows].tolist()) + b"]"
        offer.template = text, np.cumsum(self._lengths[offer.rows] + 1) - 2
        return offer.template

    def _remember(self, raw: bytes, offer: Offer) -> Offer:
        self._seen[raw] = offer
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return offer

    def _follow(self, ledger: Ledger) -> None:
        if self._layout == ledger.layout:
            return
        self._layout = ledger.layout
        self._seen.clear()
        self._quoted, self._scored = np.empty(len(ledger.names), object), np.empty(len(ledger.names), object)
        self._quoted[:] = [_encode(name) for name in ledger.names]
        self._scored[:] = [b'{"Host":%b,"Score": 0}' % quoted for quoted in self._quoted.tolist()]
        self._table = NameTable(ledger.names)
        self._lengths = np.array([len(part) for part in self._scored.tolist()], np.int64)


def _rows(ledger: Ledger, names: Sequence[str]) -> Ints:
    known = ledger.rows()
    try:
        return np.fromiter(map(known.__getitem__, names), np.int64, len(names))
    except KeyError:
        return np.array([known.get(name, -1) for name in names], np.int64)
