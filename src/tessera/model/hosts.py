"""CPU and memory of the hosts, and what the pods ask of them.

kube-scheduler itself filters by them; here they are known so that a policy can tell how much of a host's CPU and
memory a GPU's share would leave behind. Facts may arrive in any order: a pod may be told before its host.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

UNKNOWN_HOST = 1 << 60
"""Free CPU and free memory of a node whose host is not known: more than anybody asks."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a node has for pods: allocatable CPU in thousandths of a core and memory; its zone and rack, or empty.

    ``closed``: it takes no more pods, because it is cordoned or not well; ``cordoned``: the former, or both. ``gbps``:
    how fast its network is, in Gbit/s; 0: nobody says.
    """

    name: str
    cpu_milli: int
    memory_bytes: int
    zone: str = ""
    rack: str = ""
    closed: bool = False
    cordoned: bool = False
    gbps: int = 0


@dataclass(frozen=True, slots=True)
class HostNeed:
    """CPU in thousandths of a core and memory that a pod, or a part of one, asks of its host."""

    cpu_milli: int = 0
    memory_bytes: int = 0

    def plus(self, other: "HostNeed") -> "HostNeed":
        return HostNeed(self.cpu_milli + other.cpu_milli, self.memory_bytes + other.memory_bytes)

    def at_least(self, other: "HostNeed") -> "HostNeed":
        """The larger of the two, in each of both dimensions."""
        return HostNeed(max(self.cpu_milli, other.cpu_milli), max(self.memory_bytes, other.memory_bytes))


NOTHING = HostNeed()


def containers_need(apps: Iterable[HostNeed], inits: Iterable[tuple[HostNeed, bool]]) -> HostNeed:
    """What a pod's containers need of their host at one time; source: PodRequests of k8s.io/component-helpers/resource.

    ``inits``: the init containers in their order, with whether one is a sidecar, which runs on beside all that start
    after it. Either the app containers and all sidecars decide, or the largest step of the start does.
    """
    running = NOTHING
    for need in apps:
        running = running.plus(need)
    started = peak = NOTHING
    for need, sidecar in inits:
        step = started.plus(need)
        if sidecar:
            running, started = running.plus(need), step
        peak = peak.at_least(step)
    return running.at_least(peak)


class Occupancy:
    """Hosts, and what each pod occupies of which. A pod that needs nothing is not kept."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._pods: dict[str, tuple[str, HostNeed]] = {}
        self._used: dict[str, tuple[int, int, int]] = {}

    def copy(self) -> "Occupancy":
        """The same facts; what is changed in one is not seen in the other."""
        other = Occupancy()
        other._hosts, other._pods, other._used = self._hosts.copy(), self._pods.copy(), self._used.copy()
        return other

    def host(self, name: str) -> Host | None:
        return self._hosts.get(name)

    def hosts(self) -> Mapping[str, Host]:
        """The hosts by name."""
        return self._hosts

    def pods(self) -> Mapping[str, tuple[str, HostNeed]]:
        """Node and need by the pod's UID."""
        return self._pods

    def upsert(self, host: Host) -> bool:
        """Records a host; answers whether that changes anything."""
        changed = self._hosts.get(host.name) != host
        self._hosts[host.name] = host
        return changed

    def remove(self, name: str) -> bool:
        """Forgets a host, not what its pods occupy; answers whether it was known."""
        return self._hosts.pop(name, None) is not None

    def occupy(self, uid: str, node: str, need: HostNeed) -> list[str]:
        """Records what the pod ``uid`` occupies, in place of what it did; answers the nodes that this changes."""
        before = self._pods.get(uid)
        if before == (node, need):
            return []
        changed = self.vacate(uid)
        if need != NOTHING:
            self._pods[uid] = node, need
            self._add(node, need, +1)
            changed.append(node)
        return changed

    def vacate(self, uid: str) -> list[str]:
        """The pod ``uid`` occupies nothing any more; answers the nodes that this changes."""
        before = self._pods.pop(uid, None)
        if before is None:
            return []
        self._add(*before, -1)
        return [before[0]]

    def free(self, name: str) -> tuple[int, int]:
        """CPU (milli) and memory (bytes) that are free; below 0 where others promised more than there is."""
        host = self._hosts.get(name)
        if host is None:
            return UNKNOWN_HOST, UNKNOWN_HOST
        cpu, memory, _ = self._used.get(name, (0, 0, 0))
        return host.cpu_milli - cpu, host.memory_bytes - memory

    def _add(self, node: str, need: HostNeed, sign: int) -> None:
        cpu, memory, pods = self._used.get(node, (0, 0, 0))
        if pods + sign == 0:
            del self._used[node]
            return
        self._used[node] = cpu + sign * need.cpu_milli, memory + sign * need.memory_bytes, pods + sign
