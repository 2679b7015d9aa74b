"""What the slices of a GPU pay for a launch, so that each gets its share of the GPU's time. Pure.

Where no driver holds compute, a slice's programs pay for each warp that they launch with time of the slice, at a price
that the shim reads and this module sets. A slice has one nanosecond a nanosecond to spend, so at twice the price it
launches half as much. What the price has to be depends on the GPU and on the kernels, so it is found: in each round it
is multiplied by what the slice had of the GPU's time over what it should have. That needs no constant of the GPU, and
it converges alike on 20 and on 188 multiprocessors.

Targets, in percent of a GPU's time:

* ``guaranteed``: what was asked for, no more.
* ``burstable``: what was asked for; beyond it, up to its limit, what the others leave idle.
* ``best-effort``, and slices that ask for no compute: what is then still left, in equal parts.

What a slice does not use is lent in the next round. Idle, its own price comes down to where its launches are let
through at once; the round after it has grown, all that it asked for is its own again.

A round must be longer than a kernel, or what is measured says little: up to about 20 ms each the shares hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PRICE_UNIT = 1 << 16
"""Prices are nanoseconds a warp in this fixed point."""
FREE = 0
CHEAPEST, DEAREST = 1, (1 << 48) - 1
SATURATED_PERCENT = 95.0
FIRST = 2000 * PRICE_UNIT
"""What a slice pays that was never measured: more than most kernels will have to."""
_FASTEST = 4.0
"""How much a price changes in one round where nothing can be measured: the GPU is full, or the slice idle."""
_CLOSE = 1.25
"""As near to the target as this, only half of the difference is made up in a round."""
_FADING, _FADED = 0.97, 1e-4
"""How fast a slice's last price is forgotten while it is idle, and how far."""
_LEAST_PERCENT = 2.0
"""Below it a slice counts as idle, and what is measured says nothing about its price."""
_MARGIN_PERCENT = 2.0
"""What a slice keeps of what it does not use, so that it is seen when it wants more."""
_WAKING = 0.7
"""One that has grown keeps as much again, and this much of it in each round after."""
_DAMPING = 0.5


@dataclass(frozen=True, slots=True)
class Claim:
    """A slice on one GPU. ``percent`` 0: it asks for no compute; ``limit_percent``: how far it may burst."""

    id: str
    percent: int
    limit_percent: int = 0
    qos: str = "guaranteed"


def targets(
    claims: Sequence[Claim], used: Mapping[str, float], margins: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Percent of the GPU's time for each slice, given what each ``used`` in the last round.

    ``margins``: what each keeps beyond that of what it asked for, and does not lend.
    """
    entitled = [claim for claim in claims if claim.percent and claim.qos != "best-effort"]
    out = {claim.id: float(claim.percent) for claim in entitled}
    kept = {id_: used.get(id_, 0.0) + (margins or {}).get(id_, _MARGIN_PERCENT) for id_ in out}
    left = 100.0 - sum(min(out[id_], kept[id_]) for id_ in out)
    bursting = [c for c in entitled if c.qos == "burstable" and used.get(c.id, 0.0) + _MARGIN_PERCENT >= c.percent]
    left = _lend(out, {c.id: float(max(c.limit_percent - c.percent, 0)) for c in bursting}, left)
    rest = {claim.id: 100.0 for claim in claims if claim not in entitled}
    out |= dict.fromkeys(rest, _LEAST_PERCENT)
    _lend(out, rest, left - _LEAST_PERCENT * len(rest))
    return out


def _lend(out: dict[str, float], wishes: Mapping[str, float], left: float) -> float:
    """Shares ``left`` out evenly, to nobody more than he wishes; answers what remains."""
    for number, id_ in enumerate(sorted(wishes, key=wishes.__getitem__)):
        part = min(wishes[id_], max(left, 0.0) / (len(wishes) - number))
        out[id_] += part
        left -= part
    return left


@dataclass(frozen=True, slots=True)
class Price:
    """``now``, and ``anchor``: the last one at which the slice was seen to work, fading while it is not.

    ``rounds``: for how many rounds in a row it has been idle (negative) or had too much of a full GPU (positive). One
    such round may be a kernel that began before it and ended after it.
    """

    now: float
    anchor: float
    faded: float = 1.0
    rounds: int = 0

    def after(self, used: float, target: float, busy: float) -> "Price":
        """``used``, ``target`` and ``busy`` (the whole GPU): percent of the round that has passed."""
        ratio = used / target
        if used < _LEAST_PERCENT:
            return self._idle(target)
        if ratio > _CLOSE and busy >= SATURATED_PERCENT:
            # On a full GPU a slice gets what the others leave it, however cheap its launches are.
            rounds = max(self.rounds, 0) + 1
            return self._at(max(ratio, _FASTEST) if rounds > 1 else ratio, rounds)
        return self._at(ratio**_DAMPING if 1 / _CLOSE < ratio < _CLOSE else ratio, 0)

    def _at(self, factor: float, rounds: int) -> "Price":
        now = min(max(self.now * factor, CHEAPEST), DEAREST)
        return Price(now, now, rounds=rounds)

    def _idle(self, target: float) -> "Price":
        """Idle, or far too dear: nobody can tell. It comes down, but not at once to where the GPU is given away."""
        floor = self.anchor * self.faded * target / 100
        rounds = min(self.rounds, 0) - 1
        now = max(self.now / _FASTEST, min(floor, self.now), CHEAPEST) if rounds < -1 else self.now
        return Price(now, self.anchor, max(self.faded * _FADING, _FADED), rounds)


class Pacer:
    """The prices of the slices on one GPU."""

    def __init__(self) -> None:
        self._prices: dict[str, Price] = {}
        self._before: Mapping[str, float] = {}
        self._margins: Mapping[str, float] = {}

    def round(self, claims: Sequence[Claim], used: Mapping[str, float]) -> dict[str, int]:
        """The price of each slice, given what each ``used`` in the last round, in percent of the GPU's time.

        ``FREE`` for all of them where none asks for compute.
        """
        if not any(claim.percent for claim in claims):
            self._prices.clear()
            return dict.fromkeys((claim.id for claim in claims), FREE)
        self._margins = {claim.id: self._margin(claim.id, used) for claim in claims}
        wanted, busy = targets(claims, used, self._margins), min(sum(used.values()), 100.0)
        self._before, first = dict(used), Price(FIRST, PRICE_UNIT)
        before = {claim.id: self._prices.get(claim.id) for claim in claims}
        self._prices = {
            id_: price.after(used.get(id_, 0.0), wanted[id_], busy) if price else first for id_, price in before.items()
        }
        return {id_: round(price.now) for id_, price in self._prices.items()}

    def _margin(self, id_: str, used: Mapping[str, float]) -> float:
        grown = used.get(id_, 0.0) - self._before.get(id_, 0.0)
        return max(_MARGIN_PERCENT, grown, self._margins.get(id_, 0.0) * _WAKING)


def encode(price: int) -> int:
    """As the shim reads it: the price in 48 bits, its check in the 16 above them (``limits_price`` in native/)."""
    check = (price ^ price >> 16 ^ price >> 32 ^ 0x7E55) & 0xFFFF
    return check << 48 | price
