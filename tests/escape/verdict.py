"""What became of an attempt, judged from what was seen: whether it was held, and which wall held it. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from tessera.node_agent.settings import CONTEXT_BYTES

CONTEXT_MIB = CONTEXT_BYTES >> 20
"""What a program's context takes: the chart's default, and the stand-in's."""
SLICE_MIB = 2048 + CONTEXT_MIB
"""What a container has."""
RULE_S = 2.0
OUT_OF_MEMORY = 2
"""CUDA's code."""
OVER, ENDED = "SliceOverLimit", "was ended"
"""The watcher's reason, and its words on what it did."""


class Escaped(Exception):
    """A row did not come out as it must; the text says how."""


class Wall(StrEnum):
    """What holds: the first ones refuse, the last two find out."""

    ADMISSION = "admission"
    PRE_START = "PreStart"
    CDI = "CDI"
    KERNEL = "kernel"
    SHIM = "shim"
    SHIM_CLOSED = "shim, closed"
    WATCHER = "watcher"
    AGENT = "agent"

    @property
    def kind(self) -> str:
        return "detected" if self in (Wall.WATCHER, Wall.AGENT) else "blocked"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``wall``: what held; ``evidence``: what was seen; ``seconds``: until it was found out, if it was."""

    wall: Wall
    evidence: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a program got, the driver's last answer, and when."""

    mib: int
    code: int
    at: float


@dataclass(frozen=True, slots=True)
class Told:
    """An event. ``at``: its own stamp, which is in whole seconds."""

    reason: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Seen:
    """``beside``: MiB of the slice's other program; ``ended_at``: none if it lives on; ``told``: the pod's events."""

    taken: Taken
    beside: int = 0
    ended_at: float | None = None
    told: tuple[Told, ...] = ()

    @property
    def asked(self) -> int:
        """MiB that the programs asked for."""
        return self.taken.mib + self.beside

    @property
    def mib(self) -> int:
        """MiB of the programs, contexts included."""
        return self.asked + CONTEXT_MIB * (2 if self.beside else 1)


def judge(seen: Seen) -> Outcome:
    """Of a program that took as much as it was given."""
    return _refused(seen) if seen.mib <= SLICE_MIB else _ended(seen)


def confirm(wall: Wall, outcome: Outcome) -> Outcome:
    """What the row names is what held."""
    if outcome.wall is not wall:
        raise Escaped(f"held by {outcome.wall}, and the row names {wall}: {outcome.evidence}")
    return outcome


def in_time(told: tuple[Told, ...], reason: str, words: str, since: float) -> Told:
    """The first event of that reason with these words, which must not have come after the rule's time."""
    found = sorted((one for one in told if one.reason == reason and words in one.message), key=lambda one: one.at)
    if not found:
        had = "; ".join(f"{one.reason}: {one.message}" for one in told) or "none"
        raise Escaped(f"no event {reason} with {words!r}; found {had}")
    if found[0].at - since > RULE_S:
        raise Escaped(f"event {reason} came {found[0].at - since:.2f} s later")
    return found[0]


def judge_bursts(begun: tuple[float, ...], burst_s: float, ended_at: float | None, told: tuple[Told, ...]) -> Outcome:
    """Of a program that was over its limit for ``burst_s`` from each of these times on: it has no more of them than one
    that stays there."""
    if ended_at is None:
        raise Escaped(f"{len(begun)} bursts, and it lives on")
    over = sum(min(burst_s, max(ended_at - at, 0.0)) for at in begun)
    if over > RULE_S:
        raise Escaped(f"over its limit for {over:.2f} s in {len(begun)} bursts")
    if len(begun) < 2:
        raise Escaped("ended in its first burst, as one that stays over its limit")
    event = in_time(told, OVER, ENDED, ended_at)
    evidence = f"ended after {over:.2f} s over its limit in {len(begun)} bursts; event {event.reason}"
    return Outcome(Wall.WATCHER, evidence, ended_at - begun[0])


def _refused(seen: Seen) -> Outcome:
    evidence = f"refused with {seen.taken.code} at {seen.mib} MiB"
    if seen.taken.code != OUT_OF_MEMORY:
        raise Escaped(f"{evidence}; allowed: {OUT_OF_MEMORY}, out of memory")
    if seen.asked and seen.mib != SLICE_MIB:
        raise Escaped(f"{evidence}; allowed: {SLICE_MIB}, the slice, or a context alone where its files are not whole")
    return Outcome(Wall.SHIM if seen.asked else Wall.SHIM_CLOSED, evidence)


def _ended(seen: Seen) -> Outcome:
    since = seen.taken.at
    if seen.ended_at is None:
        raise Escaped(f"{seen.mib} MiB, and it lives on")
    seconds = seen.ended_at - since
    if seconds > RULE_S:
        raise Escaped(f"{seen.mib} MiB for {seconds:.2f} s")
    event = in_time(seen.told, OVER, ENDED, since)
    evidence = f"ended {seconds:.2f} s after {seen.mib} MiB; event {event.reason}: {event.message[:60]}"
    return Outcome(Wall.WATCHER, evidence, seconds)
