"""When each slice of a GPU may launch, so that each gets its share of the GPU's time. Pure.

Where no driver holds compute, the slices that want the GPU have it in turns: in every period of the machine's monotonic
clock each has a part of its own, and the shim in its programs launches nothing outside (``native/src/gate.h``). What a
slice gets is therefore set, not measured: a driver without MPS does not tell whose work its time went to.

Shares, in percent of a GPU's time, of the slices that have work there:

* ``guaranteed``: what was asked for, no more.
* ``burstable``: what was asked for; beyond it, up to its limit, what the others leave.
* ``best-effort``, and slices that ask for no compute: what is then still left, in equal parts.

A slice without work lends all of its turn and keeps a short one over the others', so that it can begin at once; the
round after it has begun, all that it asked for is its own again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

PERIOD_US = 100_000
IDLE_PERCENT = 5.0
LEAST_PERCENT = 2.0
"""Of those that ask for no compute, where the others want it all: not to stand still for ever."""
_BITS = 24


@dataclass(frozen=True, slots=True)
class Claim:
    """A slice on one GPU. ``percent`` 0: it asks for no compute; ``limit_percent``: how far it may burst."""

    id: str
    percent: int
    limit_percent: int = 0
    qos: str = "guaranteed"

    @property
    def entitled(self) -> bool:
        return self.percent > 0 and self.qos != "best-effort"


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of each period, in microseconds from its start. A length of 0: whenever it likes."""

    start_us: int
    length_us: int


FREE = Turn(0, 0)
ALWAYS = Turn(0, PERIOD_US)


def turns(claims: Sequence[Claim], wanting: Collection[str]) -> dict[str, Turn]:
    """The turn of each slice, given which have work on the GPU. ``FREE`` for all where none asks for compute."""
    if not any(claim.percent for claim in claims):
        return {claim.id: FREE for claim in claims}
    granted = shares(claims, wanting)
    found = {claim.id: _idle(claim) for claim in claims if claim.id not in granted}
    start = 0.0
    for id_, percent in granted.items():
        found[id_] = _turn(start, percent)
        start += percent
    return found


def shares(claims: Sequence[Claim], wanting: Collection[str]) -> dict[str, float]:
    """Percent of the GPU's time for each slice that has work there; 100 in all at most."""
    active = [claim for claim in claims if claim.id in wanting]
    rest = [claim.id for claim in active if not claim.entitled]
    out = {claim.id: float(claim.percent) for claim in active if claim.entitled}
    out |= dict.fromkeys(rest, LEAST_PERCENT)
    left = 100.0 - sum(out.values())
    bursts = {c.id: float(max(c.limit_percent - c.percent, 0)) for c in active if c.entitled and c.qos == "burstable"}
    left = _lend(out, bursts, left)
    _lend(out, dict.fromkeys(rest, 100.0), left)
    total = max(sum(out.values()), 100.0)
    return {id_: 100.0 * percent / total for id_, percent in out.items()}


def _lend(out: dict[str, float], wishes: Mapping[str, float], left: float) -> float:
    """Shares ``left`` out evenly, to nobody more than he wishes; answers what remains."""
    for number, id_ in enumerate(sorted(wishes, key=wishes.__getitem__)):
        part = min(wishes[id_], max(left, 0.0) / (len(wishes) - number))
        out[id_] += part
        left -= part
    return left


def _turn(start: float, percent: float) -> Turn:
    begin, end = (round(PERIOD_US * at / 100) for at in (start, start + percent))
    return Turn(begin, max(end - begin, 1)) if end - begin < PERIOD_US else ALWAYS


def _idle(claim: Claim) -> Turn:
    """Over the others' turns: it has no work, and is seen when it has."""
    percent = min(float(claim.percent or IDLE_PERCENT), IDLE_PERCENT)
    return _turn(0.0, percent)


def encode(turn: Turn) -> int:
    """As the shim reads it: start and length, with a check above them (``limits_turn`` in native/)."""
    value = turn.start_us << _BITS | turn.length_us
    check = (value ^ value >> 16 ^ value >> 32 ^ 0x7E55) & 0xFFFF
    return check << 2 * _BITS | value


def first_turns(percents: Iterable[int]) -> dict[int, Turn]:
    """Of a slice that was just prepared, by the place of its GPUs: as if it had no work yet."""
    return {place: _idle(Claim("", percent)) for place, percent in enumerate(percents) if percent}
