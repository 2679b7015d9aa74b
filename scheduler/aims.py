"""The slices that GPULeases are to move to and that no news has shown yet, each with its trust domain."""

from dataclasses import dataclass, replace

from tessera.model.charges import Charge
from tessera.model.gpu_leases import GpuLease, Slice
from tessera.scheduler.lease_rooms import lease_charge


@dataclass(frozen=True, slots=True)
class Aim:
    """``domain``: the trust domain that a standing lease, which has none of its own before it has room, comes to."""

    where: Slice
    domain: str


class Aims:
    """By the leases' UIDs."""

    def __init__(self) -> None:
        self._found: dict[str, Aim] = {}

    def copy(self) -> "Aims":
        other = Aims()
        other._found = self._found.copy()
        return other

    def take(self, lease: GpuLease, where: Slice, domain: str) -> None:
        """``lease`` is to move to ``where``."""
        self._found[lease.uid] = Aim(where, domain)

    def drop(self, lease: GpuLease) -> bool:
        """It is not, or is known to by now; answers whether it was."""
        return self._found.pop(lease.uid, None) is not None

    def observe(self, lease: GpuLease) -> None:
        """What has come true is no aim any more; the lease may have been moved there already."""
        if self.of(lease) in (lease.target, lease.slice):
            self.drop(lease)

    def of(self, lease: GpuLease) -> Slice | None:
        """Where ``lease`` is to move, if no news has shown it."""
        found = self._found.get(lease.uid)
        return found.where if found else None

    def charge(self, lease: GpuLease, where: Slice) -> Charge:
        """The room at ``where`` that ``lease`` moves to."""
        found = self._found.get(lease.uid)
        return lease_charge(replace(lease, domain=lease.domain or (found.domain if found else "")), where)
