"""The expected mix of pods, from those that run when a scheduler starts: the youngest stand for what arrives next."""

from heapq import heappush, heappushpop

from tessera.model.demands import demand_of
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.policy.workload import Workload


class Youngest:
    """Of all pods seen the ``most`` that started last; of equals those that were seen last."""

    def __init__(self, most: int) -> None:
        self._most, self._seen = most, 0
        self._kept: list[tuple[str, int, Pod]] = []

    def saw(self, pod: Pod) -> None:
        """Takes a pod; one that does not run is passed over."""
        if pod.node and not pod.ended:
            self._seen += 1
            entry = (pod.started, self._seen, pod)
            if len(self._kept) < self._most:
                heappush(self._kept, entry)
            else:
                heappushpop(self._kept, entry)

    def teach(self, workload: Workload) -> None:
        """Tells ``workload`` of them, the youngest as the last to arrive."""
        for _, _, pod in sorted(self._kept, key=lambda entry: entry[:2]):
            demand = demand_of(pod)
            if not isinstance(demand, Reason):
                workload.saw(pod.host, demand)
