"""What a standing lease asks for, as a pod of one container would."""

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpu_leases import GpuLease
from tessera.model.placements import lease_preferences_of
from tessera.reasons import Reason


def standing_demand(lease: GpuLease) -> PodDemand | Reason:
    """Its annotations are read as a pod's are."""
    wanted = lease.wanted or lease.size
    preferences = lease_preferences_of(lease.annotations, wanted.core_percent)
    if isinstance(preferences, Reason):
        return preferences
    container = ContainerDemand(lease.what, 1, wanted.mem_bytes, wanted.core_percent)
    return PodDemand(lease.namespace, lease.name, lease.uid, (container,), preferences)
