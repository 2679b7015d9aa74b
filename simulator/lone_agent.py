"""The real node agent on one simulated GPU, without Kubernetes: for one ``tessera run --simulate``.

The agent is a child process, because the NVML library and its state file belong to a process: ``python -m
tessera.simulator.lone_agent FOLDER``. It ends once its standard input is closed and its leases are released, so that it
outlives neither a client that was killed nor what that client ran.
"""

import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.node_agent.service import Service
from tessera.node_agent.settings import Enforcement, NodeAgentSettings
from tessera.settings import LogSettings
from tessera.simulator.agent_process import LOG, SOCKET, AgentError, await_leases
from tessera.simulator.fakes.compiling import BuildError
from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml import presets
from tessera.simulator.fakes.nvml.state import ENV, NvmlState
from tessera.telemetry import configure_logging

MODEL = "H100"
STATE = "nvml.state"
RELEASE_S = 15.0
_BUILT = Path(__file__).resolve().parents[1] / "build" / "native" / platform.machine() / "libtessera.so"


class LoneAgentError(Exception):
    """The agent did not start; the text says why."""


@dataclass(frozen=True, slots=True)
class LoneAgent:
    """Where it gives leases, and the variables by which programs find its GPU."""

    socket: Path
    environment: Mapping[str, str]


@contextlib.contextmanager
def lone_agent() -> Iterator[LoneAgent]:
    """An agent while the block runs. Raises ``LoneAgentError``."""
    try:
        libraries = [str(nvml.library_dir()), str(cuda.library_dir())]
    except BuildError as error:
        raise LoneAgentError(f"--simulate: {error}") from None
    with tempfile.TemporaryDirectory(prefix="tessera-run-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        NvmlState(gpus=presets.host_gpus([MODEL], host="simulated")).write(folder / STATE)
        NvmlState.let_programs_tell(folder / STATE)
        environment = {ENV: str(folder / STATE), "LD_LIBRARY_PATH": ":".join(libraries)}
        with _child(folder, environment) as child:
            try:
                await_leases(folder, child)
            except AgentError as error:
                raise LoneAgentError(f"--simulate: {error}") from None
            yield LoneAgent(folder / SOCKET, environment)


@contextlib.contextmanager
def _child(folder: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / LOG).open("wb") as log:
        command = [sys.executable, "-m", "tessera.simulator.lone_agent", str(folder)]
        child = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    assert child.stdin is not None
    try:
        yield child
    finally:
        child.stdin.close()
        try:
            child.wait(RELEASE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def settings(folder: Path) -> NodeAgentSettings:
    """The agent's, under ``folder``. MPS needs NVIDIA's own program and is left out; contexts take nothing here."""
    values: dict[str, Any] = {
        "node": "localhost",
        "agent_socket": folder / "agent.sock",
        "lease_socket": folder / SOCKET,
        "state_dir": folder / "agent",
        "enforcement": Enforcement.WATCH,
        "mps_control": "",
        "shim": os.environ.get("TESSERA_SHIM") or (str(_BUILT) if _BUILT.is_file() else ""),
        "context_bytes": 0,
        "api": False,
    }
    return NodeAgentSettings(**values)


async def serve(folder: Path) -> None:
    """Runs the agent until standard input ends and nothing is leased."""
    service = Service(settings(folder))
    await service.start()
    try:
        await asyncio.to_thread(sys.stdin.buffer.read)
        await service.leases_ended(RELEASE_S)
    finally:
        await service.stop()


def main() -> int:
    """Answers the exit status."""
    configure_logging(LogSettings(), node="localhost")
    asyncio.run(serve(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
