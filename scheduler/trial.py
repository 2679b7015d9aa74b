"""A copy of the engine in which moves are tried: what happens in it never reaches the ledger that kube-scheduler asks.

Pods are placed by the engine's own policy, as kube-scheduler would have them placed, with the CPU and the memory of
the hosts checked as well, which kube-scheduler does itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Bools
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.promises import Promise


@dataclass(frozen=True, slots=True)
class Taken:
    """What a pod held before it was taken out, and the standing leases that it used."""

    uid: str
    charge: Charge | None
    occupied: tuple[str, HostNeed] | None
    used: tuple[GpuLease, ...] = ()


class Trial:
    """A copy of ``engine`` as it is now. Holds of the pods in ``without`` are no part of it."""

    def __init__(self, engine: Engine, without: tuple[str, ...] = ()) -> None:
        self.engine = Engine(lambda: 0.0, engine.options, engine.leases.copy())
        self.ledger = self.engine.ledger
        self.engine.domains = engine.domains
        for uid in without:
            promised = engine.promises().get(uid)
            if promised is not None and promised.kind is Promise.HOLD:
                self.take_out(uid)

    def take_out(self, uid: str) -> Taken:
        """The pod is gone, its room is free, and so are the standing leases that it used."""
        charge = self.ledger.charge_of(uid)
        taken = Taken(uid, charge, self.ledger.occupants().get(uid), tuple(self._used(uid, charge)))
        self.engine.forget_pod(uid)
        for lease in taken.used:
            self.engine.leases.observe(replace(lease, client=None))
        return taken

    def put_back(self, taken: Taken) -> None:
        """As it was before ``take_out``."""
        self.engine.forget_pod(taken.uid)
        if taken.charge is not None:
            self.ledger.charge(taken.uid, taken.charge)
        if taken.occupied is not None:
            self.ledger.occupy(taken.uid, *taken.occupied)
        for lease in taken.used:
            self.engine.leases.observe(lease)

    def place(self, pod: Pod, offered: Bools) -> Charge | None:
        """Gives ``pod`` the room that the policy picks on the nodes ``offered`` (by ledger row)."""
        self.engine.place(pod, offered & self.ledger.host_room(pod.host))
        return self.ledger.charge_of(pod.uid)

    def _used(self, uid: str, charge: Charge | None) -> Iterator[GpuLease]:
        if charge is None or charge.assignment is None:
            return
        for _, name in charge.assignment.leases:
            lease = self.engine.leases.named(f"{charge.namespace}/{name}")
            if lease is not None and lease.standing and lease.pod_uid == uid:
                yield lease


def successor(pod: Pod) -> Pod:
    """The pod that its controller makes in the place of ``pod``, as far as is known before it is there."""
    return replace(pod, uid=f"{pod.uid}+", node="", phase="Pending", deleting=False)
