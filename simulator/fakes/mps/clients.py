"""The clients' side of the stand-in for MPS, for tests and simulated containers."""

import sys
from pathlib import Path

from tessera.simulator.fakes.mps import daemon

PROGRAM = Path(__file__).resolve().parent / "nvidia-cuda-mps-control"
"""The executable, to be given to the agent as ``mps_control``; runs on the ``python3`` of the PATH."""


def install(folder: Path) -> Path:
    """Puts a starter of ``PROGRAM`` on this very interpreter into ``folder``, whose path must be short; answers it."""
    starter = folder / PROGRAM.name
    text = (
        f"#!{sys.executable} -IS\n__file__ = {str(PROGRAM)!r}\nexec(compile(open(__file__).read(), __file__, 'exec'))\n"
    )
    starter.write_text(text)
    starter.chmod(0o755)
    return starter


class FakeMps:
    """What happens at one pipe folder."""

    def __init__(self, pipe: Path) -> None:
        self.pipe = pipe

    @property
    def state(self) -> daemon.State:
        """A copy of the daemon's state. Raises ``FileNotFoundError`` if none runs."""
        with daemon.opened(self.pipe) as state:
            return dict(state)

    def connect(self, pid: int, uid: int = 0) -> None:
        """A program begins to use the GPU. Raises ``daemon.Refused``."""
        with daemon.opened(self.pipe) as state:
            server = daemon.server_for(state, uid)
            if server["status"] == "FAULT":
                raise daemon.Refused("the server is in FAULT")
            if len(server["clients"]) >= state["max_clients"]:
                raise daemon.Refused("the server has as many clients as it takes")
            server["clients"][str(pid)] = {"memory": dict(server["memory"]), "percent": server["percent"]}

    def disconnect(self, pid: int) -> None:
        """A program has ended."""
        with daemon.opened(self.pipe) as state:
            daemon.leave(state, pid)

    def fault(self) -> None:
        """A client faults: every client of its server is affected."""
        with daemon.opened(self.pipe) as state:
            for server in state["servers"].values():
                server["status"] = "FAULT"

    def forget(self, uuid: str) -> None:
        """Somebody changes the memory ceiling behind the agent's back."""
        with daemon.opened(self.pipe) as state:
            state["memory"][uuid] = "1M"

    def crash(self) -> None:
        """The daemon dies with its servers."""
        (self.pipe / daemon.STATE).unlink(missing_ok=True)
