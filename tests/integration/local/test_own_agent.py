"""An agent that a user runs for himself, without cgroups: it knows a command's processes all the same.

Without the shim, which only the watcher is to stand in for here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tessera.simulator.agent_process import LOG, SOCKET, STATE_DIR, await_leases
from tessera.simulator.fakes.cuda import build as cuda
from tessera.simulator.fakes.nvml import build as nvml
from tessera.simulator.fakes.nvml.state import NvmlState
from tests.integration.local.commands import CUDA, Commands, alive, until
from tests.integration.local.conftest import Agent
from tests.integration.local.test_users import AS_USER, PYTHON, UID

WHO = AS_USER if os.getuid() == 0 else ()
"""Root's own agent may make cgroups."""
pytestmark = pytest.mark.skipif(
    bool(WHO) and not (shutil.which("setpriv") and PYTHON), reason="root cannot become a user who has a Python"
)
LIBRARIES = {"cuda": cuda, "nvml": nvml}
DAEMON = "setsid sh -c 'echo $$; exec sleep 600' & echo $$; exec sleep 600"


class OwnAgent(Agent):
    """On one simulated GPU."""

    def start(self) -> None:
        command = [*WHO, sys.executable, "-m", "tessera.node_agent.main", "--node", "localhost", "--api", "false"]
        command += ["--agent-socket", str(self.folder / "agent.sock"), "--lease-socket", str(self.socket)]
        command += ["--state-dir", str(self.folder / STATE_DIR), "--cgroup-mount", str(self.folder / "none")]
        (self.folder / SOCKET).unlink(missing_ok=True)
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options], env={**os.environ, **self.environment}, stdout=log, stderr=log
            )
        await_leases(self.folder, self.process)

    def run(self, *options: str, command: Sequence[str] = ("true",)) -> "subprocess.CompletedProcess[str]":
        return Commands(self.environment, WHO).run(("--socket", str(self.socket), *options), command)

    def begin(self, mem: str, command: Sequence[str]) -> "subprocess.Popen[str]":
        return Commands(self.environment, WHO).start(("--socket", str(self.socket), "--gpu-mem", mem), command)


@pytest.fixture
def own() -> Iterator[OwnAgent]:
    """Started, in a folder that is the user's, with the libraries that it and its commands load."""
    with tempfile.TemporaryDirectory(prefix="tessera-") as folder:
        made = OwnAgent(Path(folder), None, ("H100",))
        copies = [shutil.copytree(of.library_dir(), made.folder / name) for name, of in LIBRARIES.items()]
        made.environment["LD_LIBRARY_PATH"] = ":".join(map(str, copies))
        NvmlState.let_programs_tell(made.folder / "nvml.state")
        if WHO:
            subprocess.run(["chown", "-R", f"{UID}:{UID}", folder], check=True)
        made.start()
        yield made
        made.end(subprocess.Popen.terminate)


def pids_of(run: "subprocess.Popen[str]") -> list[int]:
    """The command's own and what it put in the background."""
    assert run.stdout
    return [int(run.stdout.readline()) for _ in range(2)]


def test_it_says_that_its_leases_are_cooperation_and_gives_none_that_asks_for_more(own: OwnAgent):
    done = own.run("--gpu-mem", "4Gi", "--verbose")
    assert done.returncode == 0 and "level 0, its processes by cooperation, this user only" in done.stderr
    for level in ("1", "2", "3"):
        refused = own.run("--gpu-mem", "4Gi", "--enforcement", level, command=("echo", "started"))
        assert (refused.returncode, refused.stdout) == (125, "")
        assert f"{own.state.gpus[0].uuid}: enforcement level 0" in refused.stderr


def test_the_agent_that_comes_next_gives_no_room_away_and_watches_who_has_it(own: OwnAgent):
    takes = f"{CUDA}assert not take(3072)\nprint('ready', flush=True)\nsys.stdin.readline()\nassert not take(62 << 10)"
    code = f"{takes}\nprint(told(), flush=True)\nsys.stdin.read()"
    with own.begin("60Gi", [str(PYTHON), "-c", code]) as run:
        assert run.stdin and run.stdout and run.stderr
        assert run.stdout.readline() == "ready\n", run.stderr.read()
        held = own.slices()
        own.end(subprocess.Popen.kill)
        own.start()
        refused = own.run("--gpu-mem", "60Gi")
        assert refused.returncode == 125 and "no room" in refused.stderr and own.slices() == held
        print("on", file=run.stdin, flush=True)
        assert run.stdout.readline().startswith("(") and run.wait(60) == 137
    until(lambda: not own.slices())


@pytest.mark.parametrize("agent_ends", ["never", "before", "after"])
def test_a_client_that_is_killed_takes_all_of_it_along(own: OwnAgent, agent_ends: str):
    """The agent stays, or it is killed and comes again: before or after the client is killed."""
    with own.begin("4Gi", ["sh", "-c", DAEMON]) as run:
        pids = pids_of(run)
        if agent_ends != "never":
            own.end(subprocess.Popen.kill)
        if agent_ends == "before":
            own.start()
        run.kill()
        run.wait(60)
        if agent_ends == "after":
            assert all(alive(pid) for pid in pids)
            own.start()
        until(lambda: not any(alive(pid) for pid in pids))
        until(lambda: not own.slices())


def test_the_command_goes_on_while_the_agent_comes_again(own: OwnAgent):
    with own.begin("4Gi", ["sh", "-c", "echo ready; read line; echo $line"]) as run:
        assert run.stdin and run.stdout and run.stdout.readline() == "ready\n"
        own.end(subprocess.Popen.kill)
        own.start()
        print("on", file=run.stdin, flush=True)
        assert (run.stdout.read(), run.wait(60)) == ("on\n", 0)
    until(lambda: not own.slices())
