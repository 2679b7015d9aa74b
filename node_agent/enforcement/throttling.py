"""When the slices of a GPU may launch whose compute MPS holds. Pure.

MPS fixes the percentage of a client when it starts: a burstable one starts at its limit, a best-effort one without.
What they may have above their request is the neighbours' while those work, so the shim throttles them by turns: with
``limit`` percent of the multiprocessors in ``share / limit`` of the time a slice has ``share`` percent of the GPU.
Guaranteed slices are held by their percentage alone and launch whenever they like; clients run beside each other, so
turns may overlap.
"""

from collections.abc import Collection, Sequence

from tessera.node_agent.enforcement.pacing import FREE, IDLE_PERCENT, PERIOD_US, Claim, Turn, shares


def throttled(claims: Sequence[Claim]) -> bool:
    """Whether a GPU with these slices needs turns: one asks for compute, and one may have more than it asked for."""
    return any(claim.percent for claim in claims) and any(_held_at(claim) > claim.percent for claim in claims)


def throttles(claims: Sequence[Claim], wanting: Collection[str]) -> dict[str, Turn]:
    """The turn of each slice, given which have work on the GPU. ``FREE`` where nothing has to be given back."""
    if not throttled(claims):
        return {claim.id: FREE for claim in claims}
    granted = shares(claims, wanting)
    return {claim.id: _turn(claim, granted.get(claim.id)) for claim in claims}


def _turn(claim: Claim, granted: float | None) -> Turn:
    """One without work keeps its request, so that it can begin with it."""
    own = float(claim.percent) if claim.entitled else IDLE_PERCENT
    part = (own if granted is None else granted) / _held_at(claim)
    return Turn(0, max(round(PERIOD_US * part), 1)) if part < 1 else FREE


def _held_at(claim: Claim) -> int:
    """The percentage that a client of the slice starts with."""
    if not claim.entitled:
        return 100
    return max(claim.percent, claim.limit_percent) if claim.qos == "burstable" else claim.percent
