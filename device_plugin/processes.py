"""Which pods still have processes on this host, by their cgroups.

A force-deleted pod leaves the API server and the kubelet while its containers may live on. Needs the host's PID
namespace; without it nothing is found and only the driver's own list of GPU processes speaks.
"""

import re
from pathlib import Path

_POD = re.compile(rb"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})")


def pod_uids(proc: Path = Path("/proc")) -> frozenset[str]:
    """The UIDs of all pods that have a process. The systemd driver writes ``_`` for ``-``. Blocking."""
    found: set[str] = set()
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                match = _POD.search((entry / "cgroup").read_bytes())
            except OSError:
                continue  # the process ended while we looked
            if match:
                found.add(match.group(1).decode().replace("_", "-"))
    return frozenset(found)
