"""The clients' side of the stand-in for MPS, for tests and simulated containers."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tessera.simulator.fakes.mps import daemon, partitions, servers

PROGRAM = Path(__file__).resolve().parent / "nvidia-cuda-mps-control"
"""The executable, to be given to the agent as ``mps_control``; runs on the ``python3`` of the PATH."""


def install(folder: Path, driver: str = daemon.DRIVER) -> Path:
    """Puts a starter of ``PROGRAM`` on this very interpreter into ``folder``, whose path must be short; answers it."""
    starter = folder / PROGRAM.name
    lines = (
        f"#!{sys.executable} -IS",
        f"import os; os.environ[{daemon.DRIVER_ENV!r}] = {driver!r}",
        f"__file__ = {str(PROGRAM)!r}",
        "exec(compile(open(__file__).read(), __file__, 'exec'))",
    )
    starter.write_text("\n".join((*lines, "")))
    starter.chmod(0o755)
    return starter


class FakeMps:
    """What happens at one pipe folder."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe

    @property
    def state(self) -> servers.State:
        """A copy of the daemon's state. Raises ``FileNotFoundError`` if none runs."""
        with daemon.opened(self.pipe) as state:
            return dict(state)

    def connect(self, pid: int, uid: int = 0, devices: Sequence[str] = (), partition: str = "") -> None:
        """A program begins to use ``devices``, by default the daemon's first; ``partition`` is what its environment
        says. Raises ``servers.Refused``."""
        with daemon.opened(self.pipe) as state:
            server = servers.server_for(state, uid)
            if server["status"] == "FAULT":
                raise servers.Refused("the server is in FAULT")
            used = list(devices or state["devices"][:1])
            partitions.check(state, partition)
            if any(_contexts(server, device) >= state["max_clients"] for device in used):
                raise servers.Refused("the server has as many clients as it takes")
            client = {"memory": dict(server["memory"]), "percent": server["percent"], "devices": used}
            if state["static"]:
                client["partition"] = partition
            server["clients"][str(pid)] = client

    def disconnect(self, pid: int) -> None:
        """A program has ended."""
        with daemon.opened(self.pipe) as state:
            servers.leave(state, pid)

    def kill(self, pid: int) -> None:
        """A program is killed: in the middle of its work, unless that was terminated, the server faults."""
        with daemon.opened(self.pipe) as state:
            busy = [server for server in state["servers"].values() if str(pid) in server["clients"]]
            servers.leave(state, pid)
            for server in busy:
                server["status"] = "FAULT" if server["clients"] else server["status"]

    def fault(self, offender: int = 0) -> None:
        """A client faults: every client of its server is affected. The server's log names ``offender``, unless 0."""
        with daemon.opened(self.pipe) as state:
            for server in state["servers"].values():
                server["status"] = "FAULT"
        if offender:
            self.say(offender)

    def say(self, offender: int) -> None:
        """The log of each server blames a client."""
        with daemon.opened(self.pipe) as state:
            for server in state["servers"].values():
                self._log(state, server, f"Client {{PID: {offender}, Context ID: 0}} encountered a fatal GPU exception")

    def forget(self, uuid: str) -> None:
        """Somebody changes the memory ceiling behind the agent's back."""
        with daemon.opened(self.pipe) as state:
            state["memory"][uuid] = "1M"

    def crash(self) -> None:
        """The daemon dies with its servers; its files stay."""
        (self.pipe / daemon.STATE).unlink(missing_ok=True)

    def behave(self, manner: str = "") -> None:
        """From now on the daemon ``daemon.HANGS`` or ``daemon.BABBLES``, or answers again."""
        with daemon.opened(self.pipe) as state:
            state["manner"] = manner

    def embody(self, pid: int) -> None:
        """The daemon is this process: it is gone when that is."""
        with daemon.opened(self.pipe) as state:
            state["process"] = pid
            (self.pipe / daemon.PID_FILE).write_text(str(pid))

    @staticmethod
    def _log(state: servers.State, server: servers.State, text: str) -> None:
        folder = Path(state["log_folder"])
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "server.log").open("a") as file:
            file.write(f"[2026-04-28 18:20:41.986 Server {server['pid']}] {text}\n")


def _contexts(server: servers.State, device: str) -> int:
    return sum(device in client["devices"] for client in server["clients"].values())
