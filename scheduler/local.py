"""Slices on the pod's own node."""

import numpy as np

from tessera.model.charges import Charge
from tessera.model.demands import PodDemand
from tessera.model.ledger import Bools, Ledger
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.choice import choose
from tessera.scheduler.nearness import Siblings, ordered, spans_gpus
from tessera.scheduler.offers import Filtered, Offer
from tessera.scheduler.policies import Policies
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.promises import Request
from tessera.scheduler.ranking import Ties, able, fits_of
from tessera.scheduler.refusals import by_name, cluster_reason, node_reason, node_texts
from tessera.scheduler.ways import Given


class Local:
    """See ``ways.Way``."""

    def __init__(self, ledger: Ledger, policies: Policies, ties: Ties, siblings: Siblings) -> None:
        self._ledger, self._policies, self._ties, self._siblings = ledger, policies, ties, siblings

    def able(self, request: Request, offered: Bools) -> Bools:
        demand = request.demand
        room = self._ledger.room_of(request.totals)
        return able(self._ledger, demand, offered & room, self._policies.of(demand), self._policies.level(demand))

    def scores(self, request: Request, candidates: Bools) -> Floats:
        return self.scores_of(request.pod, request.demand, candidates)

    def scores_of(self, pod: Pod, demand: PodDemand | None, candidates: Bools) -> Floats:
        """As ``scores``, also for a pod without slices."""
        ties = self._ties.of(self._ledger)
        if demand is not None and spans_gpus(demand):
            level = self._policies.level(demand)
            ties = ordered(self._ledger, ties, demand, level, self._siblings.of(pod.owner))
        return self._policies.of(demand).node_scores(self._ledger, pod.host, demand, candidates, ties)

    def choose(self, request: Request, node: str) -> Given | None:
        demand = request.demand
        found = choose(self._ledger, node, demand, self._policies.of(demand), self._policies.level(demand))
        return None if found is None else Given(Charge(node, request.totals, found, request.pod.namespace))

    def refused(self, request: Request, offer: Offer) -> Filtered:
        ledger, demand = self._ledger, request.demand
        room, fits = ledger.room_of(request.totals), fits_of(ledger, demand, self._policies.level(demand))
        reason = cluster_reason(ledger, demand, fits, room, offer.mask(ledger))
        kept = np.zeros(len(offer.rows), np.bool_)
        return Filtered(offer, kept, *by_name(node_texts(ledger, demand, fits, room), offer), reason)

    def reason(self, request: Request, offered: Bools) -> Reason:
        fits = fits_of(self._ledger, request.demand, self._policies.level(request.demand))
        return cluster_reason(self._ledger, request.demand, fits, self._ledger.room_of(request.totals), offered)

    def node_reason(self, request: Request, node: str) -> Reason:
        fits = fits_of(self._ledger, request.demand, self._policies.level(request.demand))
        return node_reason(self._ledger, request.demand, fits, self._ledger.room_of(request.totals), node)
