"""MPS on a node of the suite: the control program is the stand-in, and so is what the driver does for clients."""

import sys
from pathlib import Path

from tessera.node_agent.enforcement.mps_groups import name_of
from tessera.simulator.fakes.cuda.build import library_dir as cuda
from tessera.simulator.fakes.mps.clients import PROGRAM, FakeMps, install
from tessera.simulator.fakes.nvml.build import library_dir as nvml
from tests.e2e.cluster.api import Json
from tests.escape.cage import Cage, takers

CONTROL = f"CUDA_MPS_PIPE_DIRECTORY=/pipe /python/bin/python3 -I -S /control/mps/{PROGRAM.name}"
"""How a container starts the control program."""
NOW = "/python/bin/python3 -I -S -c 'import time; print(time.time())'"


def agent(folder: Path) -> dict[str, str]:
    """What makes a node's agent hold slices by MPS."""
    folder.mkdir()
    return {
        "TESSERA_ENFORCEMENT": "mps",
        "TESSERA_MPS_CONTROL": str(install(folder)),
        "LD_LIBRARY_PATH": f"{cuda()}:{nvml()}",
    }


def uuid_of(cage: Cage) -> str:
    """The GPU that the rows' slices are on."""
    return cage.product.machines[cage.node].uuids[0]


def daemon_of(cage: Cage) -> FakeMps:
    """The daemon of that GPU."""
    return FakeMps(cage.agent / "mps" / name_of((uuid_of(cage),)) / "pipe")


def join(cage: Cage, name: str) -> None:
    """What CUDA does at a program's start: it is a client of the daemon of its pipe folder, if there is one."""
    for pid in programs(cage, name):
        entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
        environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        folder = environment.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
        if Path(f"/proc/{pid}/root{folder}/control").exists():
            daemon_of(cage).connect(pid)


def programs(cage: Cage, name: str) -> list[int]:
    """Those of a pod that take memory."""
    return takers(cage.tenant.get("Pod", name)["metadata"]["uid"])


def control_volumes(cage: Cage) -> tuple[list[Json], list[Json]]:
    """Volumes and mounts with the control program, and with the pipe folder in a way that the stand-in can write to.

    The real daemon is spoken to through its socket, which works in a read-only folder too, and writes its log itself;
    the stand-in has files.
    """
    log = Path(daemon_of(cage).state["log_folder"])
    places = {"python": Path(sys.base_prefix), "control": PROGRAM.parent, "pipe": daemon_of(cage).pipe, "log": log}
    made: list[Json] = [{"name": name, "hostPath": {"path": str(path)}} for name, path in places.items()]
    paths = {"python": "/python", "control": "/control/mps", "pipe": "/pipe", "log": str(log)}
    return made, [{"name": name, "mountPath": path} for name, path in paths.items()]
