"""One command in a slice: what it is told, what it gets, and that nothing is left of it."""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.local.commands import CUDA, Commands, alive, python, until
from tests.integration.local.conftest import Agent

SIMULATE = ("--simulate", "--gpu-mem", "4Gi")


def test_the_command_is_told_its_slice_and_held_to_it(commands: Commands):
    done = commands.run((*SIMULATE, "--gpu-core", "30"), python(f"{CUDA}print(told(), take(3072), take(1025), told())"))
    assert (done.stdout, done.stderr, done.returncode) == ("(4096, 4096) 0 2 (1024, 4096)\n", "", 0)


def test_all_its_processes_share_the_slice(commands: Commands):
    code = f"import os\n{CUDA}\nassert not take(3072)\nsys.stdout.flush()\n"
    child = python(f"{CUDA}print(take(1025), take(1024))")
    done = commands.run(SIMULATE, python(f"{code}import subprocess\nprint(subprocess.run({child!r}).returncode)"))
    assert done.stdout == "2 0\n0\n", done.stderr


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-program"], 127, "command: found 'no-such-program'"),
        (["/etc/passwd"], 126, "command: found '/etc/passwd'"),
    ],
)
def test_its_exit_status_is_passed_on(commands: Commands, command: list[str], status: int, words: str):
    done = commands.run(SIMULATE, command)
    assert done.returncode == status
    assert done.stdout == "" and words in done.stderr and done.stderr.count("\n") == bool(words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu-mem", "400Gi"), "no room for 400Gi on a GPU of this machine"),
        (("--gpu-mem", "4Gx"), "--gpu-mem: found '4Gx'"),
        (("--gpu-mem", "4Gi", "--gpu-core", "130"), "--gpu-core: found '130'"),
        (("--gpu-mem", "4Gi", "--qos", "gold"), "--qos: found 'gold'"),
        (("--gpu-mem", "4Gi", "--gpu-model", "T4"), "not a GPU that was asked for"),
        ((), "command.resources.limits"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(commands: Commands, options: tuple[str, ...], words: str):
    done = commands.run(("--simulate", *options), ["true"])
    assert done.returncode == 125
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_input_and_output_are_the_commands_own(commands: Commands):
    done = commands.run(SIMULATE, ["cat"], input="line\n")
    assert (done.stdout, done.stderr, done.returncode) == ("line\n", "", 0)


def test_a_whole_gpu_is_held_to_nothing(commands: Commands):
    done = commands.run(
        ("--simulate", "--gpu", "1"), python(f"import os\n{CUDA}print(os.environ.get('LD_PRELOAD'), told()[1])")
    )
    assert done.stdout.startswith("None 8"), done.stderr


def test_signals_reach_the_command(commands: Commands):
    with commands.start(
        SIMULATE, ["sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"]
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        run.terminate()
        assert (run.stdout.read(), run.wait(60)) == ("caught\n", 3)


@pytest.mark.parametrize("way", [["env", "-u", "LD_PRELOAD"], ["setsid", "--wait", "env", "-u", "LD_PRELOAD"]])
def test_what_goes_around_the_shim_is_the_watchers(commands: Commands, way: list[str]):
    """The driver gives it more than its slice, and tells; it does not live to say so."""
    code = f"{CUDA}assert not take(3072) and not take(2048)\nprint(told(), flush=True)\nsys.stdin.read()"
    with commands.start(SIMULATE, [*way, *python(code)]) as run:
        assert run.stdout is not None and run.stderr is not None
        assert run.stdout.readline().startswith("(7"), run.stderr.read()
        assert run.wait(60) == 137


def test_a_client_that_is_killed_takes_all_of_it_along(commands: Commands, tmp_path: Path):
    """The command, what it put in the background, the agent and its folder."""
    commands.environment["TMPDIR"] = str(tmp_path)
    daemon = "setsid sh -c 'echo $$; exec sleep 600' & echo $$; exec sleep 600"
    with commands.start(SIMULATE, ["sh", "-c", daemon]) as run:
        assert run.stdout is not None
        pids = [int(run.stdout.readline()) for _ in range(2)]
        run.kill()
        until(lambda: not any(alive(pid) for pid in pids))
        run.wait(60)


def test_what_the_command_leaves_behind_is_ended(agent: Agent):
    commands = Commands(agent.environment)
    done = commands.run(("--socket", str(agent.socket), "--gpu-mem", "4Gi"),
                        ["sh", "-c", "setsid sh -c 'exec sleep 600' >/dev/null 2>&1 & echo $!"])  # fmt: skip
    assert done.returncode == 0, done.stderr
    until(lambda: not alive(int(done.stdout)))
    until(lambda: not agent.slices())


def test_the_agent_may_be_killed_and_come_again(agent: Agent):
    """The command goes on, what it has is on record, and it is released when it ends."""
    commands = Commands(agent.environment)
    options = ("--socket", str(agent.socket), "--gpu-mem", "4Gi")
    with commands.start(options, ["sh", "-c", "echo ready; read line; echo $line"]) as run:
        assert run.stdout is not None and run.stdin is not None and run.stdout.readline() == "ready\n"
        agent.end(subprocess.Popen.kill)
        assert len(agent.slices()) == 1
        agent.start()
        held = agent.slices()
        done = commands.run(("--socket", str(agent.socket), "--gpu-mem", "70Gi"), ["true"])
        assert done.returncode == 0 and agent.slices() == held
        print("on", file=run.stdin, flush=True)
        assert (run.stdout.read(), run.wait(60)) == ("on\n", 0)
    until(lambda: not agent.slices())


def test_a_command_joins_also_with_an_agent_that_came_after_its_lease_was_given(agent: Agent):
    code = f"""
import sys
from pathlib import Path
from tessera.cli import leasing
path = Path({str(agent.socket)!r})
with leasing.lease(path, {{"tessera.io/gpu-mem": "4Gi"}}, {{}}) as granted:
    print(granted.lease, flush=True)
    sys.stdin.readline()
    with leasing.joining(path, granted.lease):
        pass
    print("joined", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen(python(code), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as client:
        assert client.stdin is not None and client.stdout is not None and client.stderr is not None
        lease = client.stdout.readline().strip()
        agent.end(subprocess.Popen.kill)
        agent.start()
        assert agent.slices() == [lease]
        print("on", file=client.stdin, flush=True)
        assert client.stdout.readline() == "joined\n", client.stderr.read()
    until(lambda: not agent.slices())


@pytest.mark.parametrize("while_down", [True, False])
def test_a_client_that_is_killed_ends_its_lease_also_with_the_next_agent(agent: Agent, while_down: bool):
    """Whether it is killed before that agent comes or after: the command, and what it put in the background, end."""
    commands = Commands(agent.environment)
    daemon = "setsid sh -c 'echo $$; exec sleep 600' & echo $$; exec sleep 600"
    with commands.start(("--socket", str(agent.socket), "--gpu-mem", "4Gi"), ["sh", "-c", daemon]) as run:
        assert run.stdout is not None
        pids = [int(run.stdout.readline()) for _ in range(2)]
        agent.end(subprocess.Popen.kill)
        if while_down:
            run.kill()
            run.wait(60)
        agent.start()
        assert while_down or (agent.slices() and all(alive(pid) for pid in pids))
        run.kill()
        until(lambda: not any(alive(pid) for pid in pids))
        until(lambda: not agent.slices())


def test_many_at_once_never_get_more_than_there_is(agent: Agent):
    """Two GPUs of some 78 GiB: of thirty that want 12 each, twelve get it at once."""
    commands = Commands(agent.environment)
    options = ("--socket", str(agent.socket), "--gpu-mem", "12Gi")
    code = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.read()"
    with ThreadPoolExecutor(30) as pool:
        runs = list(pool.map(lambda _: commands.start(options, python(code)), range(30)))
        lines = list(pool.map(lambda run: run.stdout and run.stdout.readline().strip(), runs))
        granted = [line for line in lines if line]
        assert len(granted) == 12 and max(granted.count(uuid) for uuid in granted) == 6
        statuses = list(pool.map(lambda run: run.communicate(timeout=60) and run.returncode, runs))
    assert sorted(statuses) == [0] * 12 + [125] * 18
    until(lambda: not agent.slices())


def ask(path: Path, line: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        return dict(json.loads(connection.makefile().readline()))


@pytest.mark.parametrize(
    "line", [b"", b"noise\n", b"{}\n", b'{"type":"ask"}\n', b'{"type":"join","lease":"run-0"}\n', b"x" * 100_000]
)
def test_what_is_no_request_gets_a_sentence_and_harms_nobody(agent: Agent, line: bytes):
    assert ask(agent.socket, line)["type"] == "refused"
    done = Commands(agent.environment).run(("--socket", str(agent.socket), "--gpu-mem", "4Gi"), ["true"])
    assert done.returncode == 0, done.stderr


def test_a_silent_client_holds_nothing_up(agent: Agent):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(agent.socket))
        done = Commands(agent.environment).run(("--socket", str(agent.socket), "--gpu-mem", "4Gi"), ["true"])
        assert done.returncode == 0, done.stderr


def test_without_an_agent_the_socket_is_named(tmp_path: Path):
    done = Commands({}).run(("--socket", str(tmp_path / "none.sock"), "--gpu-mem", "4Gi"), ["true"])
    assert done.returncode == 125 and "--socket: found" in done.stderr and "none.sock" in done.stderr
