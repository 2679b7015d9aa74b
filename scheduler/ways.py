"""In which ways a pod is given its slices: on its own node, on another one, by a lease that stands, or as what its
lease keeps for it.

Each way answers the same questions, reads the ledger and changes nothing.
"""

from dataclasses import dataclass
from typing import Protocol

from tessera.model.charges import Charge
from tessera.model.demands import PodDemand
from tessera.model.gpu_leases import GpuLease
from tessera.model.ledger import Bools, Ledger
from tessera.model.placements import Remote
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.offers import Filtered, Offer
from tessera.scheduler.policy.kernels import Floats
from tessera.scheduler.promises import Request


@dataclass(frozen=True, slots=True)
class Given:
    """What a pod would hold on its node, and the leases by which it would hold slices elsewhere: not made yet, or
    standing ones as they would be once it uses them."""

    charge: Charge
    leases: tuple[GpuLease, ...] = ()


class Way(Protocol):
    """``offered``, ``candidates`` and scores are by ledger row."""

    def able(self, request: Request, offered: Bools) -> Bools:
        """Which of ``offered`` take the whole pod now."""
        ...

    def scores(self, request: Request, candidates: Bools) -> Floats:
        """How good each of ``candidates`` is; ``NEVER`` for all others."""
        ...

    def choose(self, request: Request, node: str) -> Given | None:
        """What the pod would be given on ``node``, or ``None`` if it does not fit there."""
        ...

    def refused(self, request: Request, offer: Offer) -> Filtered:
        """Why none of ``offer`` takes the pod."""
        ...

    def reason(self, request: Request, offered: Bools) -> Reason:
        """The same for the whole cluster."""
        ...

    def node_reason(self, request: Request, node: str) -> Reason:
        """Why ``node`` does not take the pod."""
        ...


@dataclass(frozen=True, slots=True)
class Ways:
    """Which way a pod goes. ``elsewhere`` and ``attached`` are ``None`` where no slices are given on other nodes."""

    ledger: Ledger
    local: Way
    leased: Way
    elsewhere: Way | None
    attached: Way | None

    def of(self, request: Request, offered: Bools) -> tuple[Way, Bools]:
        """The pod's way on the nodes ``offered``, and which of these take it: its own node's GPUs come first."""
        if fixed := self._fixed(request):
            return fixed, fixed.able(request, offered)
        kept = self.local.able(request, offered) if self.may_be_local(request.pod, request.demand) else offered & False
        if kept.any() or self.elsewhere is None or not request.demand.may_be_remote:
            return self.local, kept
        away = self.elsewhere.able(request, offered)
        required = request.demand.preferences.remote is Remote.REQUIRED
        return self.elsewhere if required or away.any() else self.local, away

    def may_be_local(self, pod: Pod, demand: PodDemand) -> bool:
        """Whether the pod may take GPUs of its own node that nobody keeps for it."""
        return not pod.lease and demand.preferences.remote is not Remote.REQUIRED

    def among(self, request: Request, candidates: Bools) -> Way:
        """The pod's way on ``candidates``, which ``of`` has found, or a part of them."""
        if fixed := self._fixed(request):
            return fixed
        if self.elsewhere is None or not request.demand.may_be_remote:
            return self.local
        return self.elsewhere if (candidates & self.ledger.client).any() else self.local

    def on(self, request: Request, node: str) -> Way:
        """The pod's way on ``node``."""
        row = self.ledger.row(node)
        if fixed := self._fixed(request):
            return fixed
        if self.elsewhere is None or not request.demand.may_be_remote:
            return self.local
        client = row is not None and bool(self.ledger.client[row])
        return self.elsewhere if client or request.demand.preferences.remote is Remote.REQUIRED else self.local

    def _fixed(self, request: Request) -> Way | None:
        """The pod's way, whichever nodes there are, if its slice is decided already."""
        if request.pod.lease:
            return self.leased
        return self.attached if request.demand.preferences.lease else None
