"""The end of a cluster, from its folder alone: also after a failed start or a killed test run.

Order matters: kubelets and containerd go first, or they would put back what is taken away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from tests.e2e.cluster import addresses, cgroups
from tests.e2e.cluster.processes import kill_all, marked

PREFIX = "tsr-"


def new_directory() -> Path:
    """A short path, since unix sockets below it must stay under 108 bytes."""
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))


def record(directory: Path, block: addresses.Block, cgroup_names: list[str], keep: bool) -> None:
    """Writes what `remove` needs, before any of it exists."""
    others = [json.loads((other / "state.json").read_text()) for other in clusters()]
    now = {name: Path("/proc/sys", name).read_text().strip() for name in TUNABLES}
    tunables = others[0]["tunables"] if others else now  # as they were before the first cluster
    owner = {"pid": os.getpid(), "started": _started(os.getpid()), "keep": keep}
    state = {"block": block.number, "cgroups": cgroup_names, "owner": owner, "tunables": tunables}
    (directory / "state.json").write_text(json.dumps(state))


def remove(directory: Path) -> None:
    """Ends all processes and containers, takes off addresses, cgroups and files. Safe to repeat."""
    state = json.loads((directory / "state.json").read_text())
    kill_all(lambda: set(marked(directory)), "the cluster's processes")
    for name in state["cgroups"]:
        kill_all(lambda name=name: cgroups.pids(name), f"containers in {name}")  # type: ignore[misc]
        cgroups.remove(name)
    block = addresses.Block(state["block"])
    block.remove_all()
    shutil.rmtree(directory)
    for name, value in state["tunables"].items() if not clusters() else ():
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)
    addresses.release(block)


def remove_abandoned() -> None:
    """Ends clusters whose owner died without ending them, unless they were to be kept."""
    for directory in Path("/tmp").glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((directory / "state.json").read_text())["owner"]
            if not owner["keep"] and _started(owner["pid"]) != owner["started"]:
                remove(directory)


def clusters() -> list[Path]:
    """Folders of all clusters on this machine."""
    return sorted(path.parent for path in Path("/tmp").glob(f"{PREFIX}*/state.json"))


# Kernel settings that a kubelet or a CNI plugin changes on the whole machine.
TUNABLES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
)


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot, '' if there is none: tells a reused PID."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
