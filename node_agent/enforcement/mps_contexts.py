"""How many clients a GPU can take under MPS, and how many it has. Pure.

The driver counts CUDA contexts on each GPU: one for each process and GPU that it uses. It refuses the first beyond its
limit with an error that no program understands, so the agent refuses the slice before.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from tessera.node_agent.enforcement.mps_replies import Context
from tessera.node_agent.slices import Slice

BEFORE_R590, FROM_R590 = 48, 60


def context_limit(driver_version: str, chosen: int = 0) -> int:
    """Contexts of one GPU; ``chosen``: the operator's, 0: by the driver. An unknown driver counts as an old one."""
    if chosen:
        return chosen
    major = re.match(r"\d+", driver_version)
    return FROM_R590 if major and int(major[0]) >= 590 else BEFORE_R590


def on_gpu(uuid: str, contexts: Iterable[Context], clients: Collection[int]) -> list[int]:
    """The processes of the contexts on a GPU. Without ``contexts`` each client counts on each of the daemon's GPUs."""
    rows = list(contexts)
    return [row.pid for row in rows if uuid.startswith(row.device)] if rows else list(clients)


def taken(uuid: str, pids: Iterable[int], pods: Mapping[int, str], slices: Iterable[Slice]) -> int:
    """The contexts of the clients, and one for each slice that has none yet. ``pods``: UIDs by process."""
    found = Counter(pods.get(pid, "") for pid in pids)
    prepared = Counter(item.pod_uid for item in slices if any(share.uuid == uuid for share in item.shares))
    return sum(max(found[pod], prepared[pod]) for pod in found.keys() | prepared.keys())
