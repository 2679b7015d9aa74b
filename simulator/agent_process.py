"""A node agent as a process that leases slices of one machine without Kubernetes, for benchmarks and tests.

Its GPUs are what the environment leads it to.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tessera.simulator.children import last_words

SOCKET, LOG, STATE_DIR = "lease.sock", "agent.log", "state"
START_S = 30.0


class AgentError(Exception):
    """The agent did not start; the text has its last words."""


def start(folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Starts one with everything of its own in ``folder``; returns once it gives leases. Raises ``AgentError``."""
    command = [sys.executable, "-m", "tessera.node_agent.main", "--node", "localhost", "--api", "false"]
    command += ["--agent-socket", str(folder / "agent.sock"), "--lease-socket", str(folder / SOCKET)]
    command += ["--state-dir", str(folder / STATE_DIR), *options]
    (folder / SOCKET).unlink(missing_ok=True)
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    await_leases(folder, child)
    return child


def await_leases(folder: Path, child: "subprocess.Popen[bytes]") -> None:
    """Returns once the agent gives leases. Raises ``AgentError``, and ends an agent that took too long."""
    deadline = time.monotonic() + START_S
    while not (folder / SOCKET).exists():
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise AgentError(f"the agent did not start:\n{last_words(folder / LOG)}")
        time.sleep(0.02)
