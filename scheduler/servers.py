"""Which pods hold, or are promised, room as executors of which lease."""

from collections.abc import Collection

from tessera.model import names
from tessera.model.gpu_leases import GpuLease
from tessera.model.pods import Pod
from tessera.scheduler.options import PoolOptions

LeaseId = tuple[str, str]
"""NAMESPACE/NAME and UID."""


class Servers:
    """Without ``pool`` no pod is an executor."""

    def __init__(self, pool: PoolOptions | None) -> None:
        self._pool = pool
        self._serves: dict[str, LeaseId] = {}
        self._servers: dict[LeaseId, set[str]] = {}

    def copy(self) -> "Servers":
        """The same facts; what is changed in one is not seen in the other."""
        other = Servers(self._pool)
        other._serves = self._serves.copy()
        other._servers = {lease: uids.copy() for lease, uids in self._servers.items()}
        return other

    def served_by(self, pod: Pod) -> LeaseId | None:
        """The lease that ``pod`` says it serves, if it is one of the pool's own pods."""
        pool = self._pool
        if pool is None or not pod.lease or (pod.namespace, pod.account) != (pool.namespace, pool.account):
            return None
        return pod.lease, pod.labels.get(names.LEASE_UID, "")

    def of(self, lease: GpuLease) -> Collection[str]:
        """The UIDs of the pods that serve ``lease``."""
        return self._servers.get((lease.key, lease.uid), ())

    def lease_of(self, uid: str) -> LeaseId | None:
        """The lease that the pod ``uid`` serves with room of its own."""
        return self._serves.get(uid)

    def start(self, pod: Pod) -> LeaseId | None:
        """``pod`` has room; answers which lease it serves with it, if any."""
        lease_id = self.served_by(pod)
        if lease_id is not None:
            self._serves[pod.uid] = lease_id
            self._servers.setdefault(lease_id, set()).add(pod.uid)
        return lease_id

    def stop(self, uid: str) -> LeaseId | None:
        """The pod ``uid`` has none; answers which lease it served."""
        lease_id = self._serves.pop(uid, None)
        if lease_id is not None:
            self._servers[lease_id].discard(uid)
            if not self._servers[lease_id]:
                del self._servers[lease_id]
        return lease_id
