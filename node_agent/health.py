"""One GPU's health from what is observed of it. Pure: events and time in, health out.

A GPU leaves at once: it does not answer, is not listed, or reports an Xid that matters. It comes back after it has
answered ``recovery_probes`` times in a row; after an Xid that needs a reset only if it was away in between, and after
any other Xid only when that was ``xid_quiet_s`` ago.
"""

from dataclasses import dataclass, replace

from tessera.model.gpus import Health
from tessera.node_agent.xids import Effect, describe, effect_of


@dataclass(frozen=True, slots=True)
class Rules:
    """How a GPU comes back."""

    recovery_probes: int = 3
    xid_quiet_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands against a GPU. ``good`` counts answers since it was away; ``needed`` those it owes.

    ``gone``: the GPU itself had left, as in a reset; not that a call or NVML as a whole failed.
    """

    away: str = ""
    gone: bool = False
    good: int = 0
    needed: int = 0
    fatal: str = ""
    passing: str = ""
    passing_since: float = 0.0

    @property
    def health(self) -> Health:
        """The most serious reason first."""
        if self.fatal:
            return Health(False, f"{self.fatal}; waits for a reset of the GPU")
        if self.away:
            return Health(False, self.away)
        if self.passing:
            return Health(False, self.passing)
        return Health()


def answered(condition: Condition, now: float, rules: Rules) -> Condition:
    """The GPU answered a probe in full."""
    if condition.passing and now - condition.passing_since >= rules.xid_quiet_s:
        condition = replace(condition, passing="")
    if not condition.away:
        return condition
    good = condition.good + 1
    if good < condition.needed:
        return replace(condition, good=good)
    fatal = "" if condition.gone else condition.fatal
    return replace(condition, away="", gone=False, good=0, needed=0, fatal=fatal)


def silent(condition: Condition, reason: str, rules: Rules, *, gone: bool = False) -> Condition:
    """The GPU did not answer; ``gone``: it has left the bus or the driver's list."""
    return replace(condition, away=reason, gone=gone or condition.gone, good=0, needed=rules.recovery_probes)


def reported(condition: Condition, code: int, now: float) -> Condition:
    """The driver reported an Xid on the GPU."""
    effect = effect_of(code)
    if effect is Effect.RESET:
        return replace(condition, fatal=describe(code))
    if effect is Effect.QUIET:
        return replace(condition, passing=describe(code), passing_since=now)
    return condition
