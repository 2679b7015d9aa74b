"""What the dashboard reads of a pod beside the scheduler's own view, and the one line that says why it waits."""

from dataclasses import dataclass

from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.pods import Pod
from tessera.model.quantities import format_bytes
from tessera.reasons import Reason


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is: a stable word and a sentence."""

    reason: str = ""
    message: str = ""

    def __bool__(self) -> bool:
        return bool(self.reason or self.message)


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod with what its status says.

    ``unscheduled`` comes from the condition ``PodScheduled``, ``no_room`` from the latest ``NoRoom`` event, ``status``
    from ``status.reason`` and ``status.message``, ``container`` from the first container that waits or was ended.
    """

    pod: Pod
    created: str = ""
    gated: bool = False
    unscheduled: Cause = Cause()
    no_room: str = ""
    status: Cause = Cause()
    container: Cause = Cause()


def asks(pod: Pod) -> str:
    """What the pod asks for, in one line: ``4Gi``, ``2 x 12Gi, 30%``, ``1 GPU``; empty if that cannot be read."""
    demand = demand_of(pod)
    return " + ".join(_container_asks(c) for c in demand.containers) if isinstance(demand, PodDemand) else ""


def why_waiting(facts: PodFacts) -> Cause:
    """Why a pod without a node waits. The scheduler's own word comes first, then ours."""
    refused = demand_of(facts.pod)
    if isinstance(refused, Reason):
        return Cause(str(refused.code), refused.text)
    if facts.gated:
        return Cause("SchedulingGated", "waits for its scheduling gates to be lifted")
    if facts.no_room:
        return Cause("NoRoom", facts.no_room)
    if facts.unscheduled:
        return facts.unscheduled
    return Cause("NotTried", "no scheduler has tried it yet")


def why_ended(facts: PodFacts) -> Cause:
    """Why a pod is not running any more, as the kubelet or the container says."""
    return facts.status or facts.container


def _container_asks(demand: ContainerDemand) -> str:
    if demand.whole:
        return f"{demand.gpus} GPU" + ("s" if demand.gpus > 1 else "")
    times = f"{demand.gpus} x " if demand.gpus > 1 else ""
    parts = [format_bytes(demand.mem_bytes)] if demand.mem_bytes else []
    parts += [f"{demand.core_percent}%"] if demand.core_percent else []
    return times + ", ".join(parts)
