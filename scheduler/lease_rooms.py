"""What one room of a GPULease is charged: nothing while an executor of the lease holds the very slice."""

from collections.abc import Callable

from tessera.model.assignment import Assignment
from tessera.model.charges import Charge, Totals
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.model.hosts import HostNeed
from tessera.model.ledger import Ledger
from tessera.scheduler.servers import Servers


def lease_charge(lease: GpuLease, where: Slice | None = None) -> Charge:
    """The room that ``lease`` keeps for its executor, or would keep at ``where``."""
    where = where or lease.slice
    share = where.share
    totals = Totals(share.mem_bytes, share.core_percent, 0, 1)
    assignment = Assignment(((lease.what, (share,)),), lease.domain)
    return Charge(where.node, totals, assignment, lease.namespace)


def is_hold(uid: str) -> bool:
    """Whether a key of the ledger's is a lease's, no pod's."""
    return "/" in uid


class LeaseRooms:
    """``need`` is what an executor takes of its host; ``freed`` hears of nodes on which room is free again."""

    def __init__(self, ledger: Ledger, servers: Servers, need: HostNeed, freed: Callable[[str], None]) -> None:
        self._ledger, self._servers, self._need, self._freed = ledger, servers, need, freed

    def occupy(self, key: str, node: str) -> None:
        """An executor is to be at ``node`` with what is charged under ``key``."""
        self._ledger.occupy(key, node, self._need)

    def settle(self, key: str, lease: GpuLease | None, room: Charge | None) -> None:
        """Makes the charge under ``key`` ``room``, or nothing where an executor of ``lease`` holds that."""
        served = lease is not None and room is not None and self._is_served(lease, room)
        wanted, charged = None if served else room, self._ledger.charge_of(key)
        if wanted == charged:
            return
        if wanted is None:
            self._ledger.release(key)
            self._ledger.vacate(key)
        else:
            self._ledger.charge(key, wanted)
            self.occupy(key, wanted.node)
        if charged is not None and not (served and charged == room):
            self._freed(charged.node)

    def _is_served(self, lease: GpuLease, room: Charge) -> bool:
        shares = room.assignment.shares if room.assignment else ()
        charges = (self._ledger.charge_of(uid) for uid in self._servers.of(lease))
        return any(
            charge.node == room.node and charge.assignment.shares == shares
            for charge in charges
            if charge and charge.assignment
        )
