"""Which pods have arrived and left, each once, as the expected mix needs it.

A pod with GPUs arrives when it is first asked about, or when it is seen bound by another leader; it leaves when it
gives its GPUs back. Of those that ran before us the youngest stand for what arrives next, and all of them may leave.
"""

from tessera.model.demands import PodDemand, demand_of
from tessera.model.pods import Pod
from tessera.reasons import Reason
from tessera.scheduler.policy.workload import WINDOW, Workload
from tessera.scheduler.youngest import Youngest


class Arrivals:
    """Tells ``workload``."""

    def __init__(self) -> None:
        self.workload = Workload()
        self._arrived: set[str] = set()
        self._youngest: Youngest | None = None

    def asked(self, pod: Pod, demand: PodDemand | Reason | None, *, again: bool) -> None:
        """kube-scheduler asks about a pod; ``again``: not for the first time, which counts where it has no GPU."""
        if isinstance(demand, PodDemand):
            self._arrive(pod, demand)
        elif demand is None and not again:
            self.workload.saw(pod.host, None)

    def bound(self, pod: Pod) -> None:
        """The API server shows a pod with slices on a node."""
        if pod.uid not in self._arrived and isinstance(demand := demand_of(pod), PodDemand):
            self._arrive(pod, demand)

    def left(self, uid: str, *, held: bool) -> None:
        """A pod is gone; ``held``: it had GPUs."""
        if uid in self._arrived and held:
            self.workload.left()
        self._arrived.discard(uid)

    def list_begins(self) -> None:
        """A part of a list comes; nothing, if the list has begun or pods have arrived before."""
        if self._youngest is None and not self.workload.due:
            self._youngest = Youngest(WINDOW // 5)

    def listed(self, pod: Pod) -> None:
        """It is in the list."""
        if self._youngest is not None:
            self._youngest.saw(pod)

    def list_ends(self) -> None:
        """Now the youngest are known."""
        if self._youngest is not None:
            self._youngest.teach(self.workload)
            self._youngest = None

    def _arrive(self, pod: Pod, demand: PodDemand) -> None:
        if pod.uid in self._arrived:
            return
        self._arrived.add(pod.uid)
        if self._youngest is None:
            self.workload.saw(pod.host, demand)
