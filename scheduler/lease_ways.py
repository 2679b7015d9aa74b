"""Where the slices of GPULeases go from a place that is to be emptied: without their pods, and by themselves.

It is what the scheduler would aim them at once it sees the place closed, said beforehand on a trial. Quotas are not
asked: where another size is wanted too, it is taken to be allowed.
"""

from dataclasses import replace

from tessera.model.charges import Charge
from tessera.model.demands import PodDemand, demand_of
from tessera.model.gpu_leases import GpuLease, Phase, Slice
from tessera.reasons import Reason
from tessera.scheduler.relocation import Aim, Decision, Relocations, Stay, Withdraw, sight_of
from tessera.scheduler.residents import Population
from tessera.scheduler.standing import standing_demand
from tessera.scheduler.trial import Trial

_ENDS = "belongs to a GPULease that is on its way out, and goes with it"
_STOPS = "belongs to a GPULease that is stopped, and is given back"
_UNDER_WAY = "belongs to a GPULease that is being moved to this very place, and moves on once it has arrived"


class LeaseWays:
    """``trial``: the place is closed in it already; each slice that goes takes its room there."""

    def __init__(self, trial: Trial, population: Population) -> None:
        self._leases, self._population = trial.engine.leases, population
        self._relocations: Relocations | None = trial.engine.relocations
        pressing = self._relocations.pressing() if self._relocations else ()
        self._causes = {lease.uid: cause.text for lease, cause in pressing}

    def way(self, lease: GpuLease) -> Slice | str:
        """Where its slice is then, or why it would stay."""
        if lease.deleting or lease.phase is Phase.RELEASED:
            return _ENDS
        if lease.stopped:
            return _STOPS
        match self._decide(lease):
            case Aim(where):
                reason = self._leases.aim(lease, where)
                return reason.text if reason else where
            case Stay(cause):
                why = cause.text.replace(f"{self._causes.get(lease.uid)}: ", "", 1)
                return f"fits nowhere else: {why}"
            case Withdraw():
                return self._anew(lease)
            case None:
                return self._settled(lease)

    def _anew(self, lease: GpuLease) -> Slice | str:
        """Its target is no good: it is decided on without, unless its sessions are on their way already."""
        if lease.phase is Phase.MIGRATING:
            return _UNDER_WAY
        there = replace(lease, target=None)
        self._leases.observe(there)
        return self.way(there)

    def _settled(self, lease: GpuLease) -> Slice | str:
        """Nothing is left to decide: it has a target, or stays where it is and only its target was of the place."""
        if lease.target is not None:
            return lease.target
        return _ENDS if self._demand(lease) is None else lease.slice

    def _decide(self, lease: GpuLease) -> Decision:
        if self._relocations is None:
            return None
        return self._relocations.decide(sight_of(lease, "", False, ""), self._demand(lease), "")

    def _demand(self, lease: GpuLease) -> PodDemand | Reason | None:
        """What its pod prefers, ``None`` if that has ended or is gone; of a standing lease what it says itself."""
        if lease.standing:
            return standing_demand(lease)
        resident = self._population.residents.get(lease.pod_uid)
        return None if resident is None or resident.pod.ended else demand_of(resident.pod)


def end_leases(trial: Trial, pod_uid: str) -> None:
    """The slices that the pod has on other nodes are free, as once it is gone; a standing lease keeps its own."""
    leases = trial.engine.leases
    for lease in [lease for lease in leases.all() if lease.standing and lease.pod_uid == pod_uid]:
        leases.observe(replace(lease, client=None))
    ended = [lease for lease in leases.all() if lease.pod_uid == pod_uid]
    charges: dict[str, Charge] = dict(trial.ledger.charges()) if ended else {}
    for key in charges:
        if leases.behind(key) in ended:
            trial.take_out(key)
    for lease in ended:
        leases.forget(lease)
