"""By what a process of a lease is known wherever it goes: its mounts. Pure.

The command sees the folder of its slice, whose name is the lease's id, at ``INFO_PATH``. Whatever it starts has its
mounts or a copy of them, also once its parents are gone and the agent that gave the lease is.
"""

import hashlib
from pathlib import PurePosixPath

from tessera.node_agent.enforcement.mountinfo import mounts_of
from tessera.node_agent.preparation import INFO_PATH

_REMOVED = "//deleted"


def lease_of(mountinfo: str) -> str:
    """The lease whose mounts these are, by /proc/PID/mountinfo; empty: none's. A lease in a lease lies on top."""
    roots = [mount.root for mount in mounts_of(mountinfo) if mount.point == INFO_PATH]
    return PurePosixPath(roots[-1].removesuffix(_REMOVED)).name if roots else ""


def home_of(lease: str) -> str:
    """The id of the container that a lease's home is, in the form of a pod's."""
    return hashlib.sha256(lease.encode()).hexdigest()
