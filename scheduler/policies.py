"""The placement policies as they are used: each made once, for the mix of pods that arrives here."""

from tessera.model.demands import PodDemand
from tessera.scheduler.fit import min_level
from tessera.scheduler.options import Options
from tessera.scheduler.policy import POLICIES, Policy
from tessera.scheduler.policy.workload import Workload


class Policies:
    """What a pod's own words and the operator's settings make of a demand."""

    def __init__(self, options: Options, workload: Workload) -> None:
        self._options, self._workload = options, workload
        self._made: dict[str, Policy] = {}

    def of(self, demand: PodDemand | None) -> Policy:
        """The policy that the pod names, else the cluster's."""
        name = (demand.preferences.placement if demand else None) or self._options.placement
        if name not in self._made:
            self._made[name] = POLICIES[name](self._workload, self._options.seed)
        return self._made[name]

    def level(self, demand: PodDemand) -> int:
        """The enforcement level that ``demand`` needs."""
        return min_level(demand, self._options.level)
