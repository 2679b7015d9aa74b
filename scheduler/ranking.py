"""Which nodes can hold a pod, and the fixed order of equal ones."""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from tessera.model.demands import PodDemand
from tessera.model.ledger import Bools, Ledger
from tessera.scheduler.fit import Fit, fit
from tessera.scheduler.offers import Offer, Scores
from tessera.scheduler.policy import Policy
from tessera.scheduler.policy.kernels import NEVER, Floats, holding
from tessera.scheduler.policy.standing import nodes_for
from tessera.scheduler.policy.wanted import simple, wanted
from tessera.scheduler.together import together


def able(ledger: Ledger, demand: PodDemand, candidates: Bools, policy: Policy, level: int) -> Bools:
    """Per row: whether the node, one of ``candidates``, holds the whole pod now."""
    if not simple(demand) or demand.containers[0].in_one_span(level):
        return feasible(ledger, demand, fits_of(ledger, demand, level), candidates, policy, level)
    out = np.empty_like(candidates)
    holding(nodes_for(ledger, demand), wanted(ledger, demand, demand.containers[0], level), candidates, out)
    return out


def fits_of(ledger: Ledger, demand: PodDemand, level: int) -> list[Fit]:
    """One ``Fit`` for each container of ``demand``."""
    return [fit(ledger, container, demand, level) for container in demand.containers]


def feasible(
    ledger: Ledger, demand: PodDemand, fits: list[Fit], candidates: Bools, policy: Policy, level: int
) -> Bools:
    """Per row: whether the node, one of ``candidates``, holds the whole pod now."""
    out = candidates
    for container, found in zip(demand.containers, fits, strict=True):
        out = out & (found.at_once(found.fits) >= container.gpus)
    return together(ledger, demand, fits, out, policy, level) if len(demand.containers) > 1 else out


def best_first(scores: Floats, most: int) -> Iterator[int]:
    """At most ``most`` rows, the best first; rows that cannot hold the pod are none of them."""
    first = int(scores.argmax())
    if scores[first] <= NEVER:
        return
    yield first
    found = np.argpartition(-scores, most)[:most] if most < len(scores) else np.arange(len(scores))
    for row in found[np.argsort(-scores[found], kind="stable")].tolist():
        if row != first and scores[row] > NEVER:
            yield row


def tens(scores: Floats, chosen: int | None, offer: Offer) -> Scores:
    """Of each node offered a score as kube-scheduler takes it: 10 for the row ``chosen``, for the others 0 to 9, the
    better half 5 and more; 0 for those that cannot hold the pod. ``scores`` are by row.
    """
    rows = np.flatnonzero(scores > NEVER)
    rows = rows[rows != chosen] if chosen is not None else rows
    ranked = rows[np.argsort(-scores[rows])]
    out = np.zeros(len(scores) + 1, np.int8)  # the last is that of nodes without a row
    out[ranked] = 9 - np.arange(len(ranked)) * 10 // max(len(ranked), 1)
    if chosen is not None:
        out[chosen] = 10
    return out[offer.rows]


class Ties:
    """The order of equal nodes, which only their names and ``seed`` decide: a number in 0..1 by ledger row."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._layout = -1
        self._ties = np.zeros(0)

    def of(self, ledger: Ledger) -> Floats:
        if self._layout != ledger.layout:
            self._layout = ledger.layout
            self._ties = np.zeros(len(ledger.present))
            self._ties[: len(ledger.names)] = [_tie(name, self._seed) for name in ledger.names]
        return self._ties


@lru_cache(maxsize=1 << 16)
def _tie(name: str, seed: int) -> float:
    return int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big") / 2.0**64
