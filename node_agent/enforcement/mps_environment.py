"""What the clients of an MPS daemon find in their environment. Pure."""

from tessera.model.assignment import Share
from tessera.node_agent.slices import Slice

PIPE_IN_CONTAINER = "/run/tessera-mps"
PARTITION = "CUDA_MPS_SM_PARTITION"
MIB = 1 << 20
_BELOW_NORMAL = "1"


def environment_of(item: Slice, group: tuple[str, ...]) -> dict[str, str]:
    """The limits of ``item``, and its GPUs where the daemon serves others besides; all by UUID."""
    environment = _common_to_all(item)
    if len(item.shares) < len(group):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share.uuid for share in item.shares)
    if percent := min(max(percent_of(item, share) for share in item.shares), 100):
        environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
    return environment


def partition_environment_of(item: Slice, partition: str) -> dict[str, str]:
    """The limits of ``item``, which runs on one partition, ``UUID/NAME``."""
    return {**_common_to_all(item), PARTITION: partition}


def _common_to_all(item: Slice) -> dict[str, str]:
    environment = {
        "CUDA_MPS_PIPE_DIRECTORY": PIPE_IN_CONTAINER,
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": ",".join(f"{s.uuid}={s.mem_bytes // MIB}M" for s in item.shares),
    }
    if item.qos == "best-effort":
        environment["CUDA_MPS_CLIENT_PRIORITY"] = _BELOW_NORMAL
    return environment


def percent_of(item: Slice, share: Share) -> int:
    """What a client starts with: it is fixed then, so a burstable one starts at its limit. 0: no cap.

    A slice's limit is in total over its GPUs, which have equal parts of it.
    """
    if item.qos == "best-effort":
        return 0
    limit = item.core_limit_percent // len(item.shares)
    return max(limit, share.core_percent) if item.qos == "burstable" else share.core_percent
