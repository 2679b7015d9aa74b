"""Where a lease's processes live: in a cgroup, or known by descent. The processes are this test's own children."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.node_agent.cgroups import Container
from tessera.node_agent.local.clients import Client, Clients
from tessera.node_agent.local.homes import CgroupHomes, Families

LEASE = Container("11111111-2222-3333-4444-555555555555", "ab" * 32)
STARTS = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
)
KILLED = -9

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[subprocess.Popen[str]] = []

    def run(*command: str) -> "subprocess.Popen[str]":
        made.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return made[-1]

    yield run
    for process in made:
        process.kill()
        process.communicate()


@pytest.fixture
def homes(cgroups: Path) -> Iterator[CgroupHomes]:
    made = CgroupHomes(cgroups)
    yield made
    made.remove(LEASE)


def client_of(pid: int) -> Client:
    found = Clients(Path).look(pid)
    assert found is not None
    return found


def test_a_cgroup_holds_who_joined_and_nobody_else(homes: CgroupHomes, start: Start):
    inside, outside = start("sleep", "600"), start("sleep", "600")
    homes.make(LEASE, client_of(os.getpid()))
    homes.make(LEASE, client_of(os.getpid()))
    assert homes.empty(LEASE) and not homes.kill(LEASE)
    homes.join(LEASE, inside.pid)
    assert not homes.empty(LEASE)
    assert homes.kill(LEASE) and inside.wait(60) == KILLED
    assert outside.poll() is None and homes.empty(LEASE)
    homes.remove(LEASE)
    homes.remove(LEASE)
    assert homes.empty(LEASE)


def test_a_process_that_has_ended_joins_no_cgroup(homes: CgroupHomes, start: Start):
    gone = start("true")
    gone.wait(60)
    homes.make(LEASE, client_of(os.getpid()))
    with pytest.raises(ProcessLookupError):
        homes.join(LEASE, gone.pid)


def grandchild(client: "subprocess.Popen[str]") -> int:
    assert client.stdout
    return int(client.stdout.readline())


def test_a_family_is_who_descends_from_the_client(start: Start):
    families, client, stranger = Families(), start(sys.executable, "-c", STARTS), start("sleep", "600")
    pid = grandchild(client)
    families.make(LEASE, client_of(client.pid))
    families.join(LEASE, pid)
    with pytest.raises(PermissionError, match=f"process {stranger.pid} was not started by the lease's client"):
        families.join(LEASE, stranger.pid)
    found, own, other = (families.look(one) for one in (pid, client.pid, stranger.pid))
    assert found and found.container == LEASE and own and own.container is None and other and other.container is None
    assert not families.empty(LEASE) and families.kill(LEASE)
    assert client.wait(60) == 0, "the client is not of its own lease: it ends when its child has gone"
    assert families.empty(LEASE) and stranger.poll() is None


def test_the_family_is_the_same_for_the_agent_that_comes_next(start: Start):
    families, client = Families(), start(sys.executable, "-c", STARTS)
    pid = grandchild(client)
    known = client_of(client.pid)
    families.make(LEASE, known)
    again = Families()
    again.make(LEASE, known)
    assert again.look(pid) == families.look(pid) and not again.empty(LEASE)
    mistaken = Families()
    mistaken.make(LEASE, replace(known, started=known.started - 1))
    assert mistaken.empty(LEASE), "who has the client's id by now is nobody's client"
    assert again.kill(LEASE) and client.wait(60) == 0


def test_a_family_without_a_client_is_no_ones(start: Start):
    families, client = Families(), start(sys.executable, "-c", STARTS)
    pid = grandchild(client)
    families.make(LEASE, client_of(client.pid))
    families.remove(LEASE)
    assert families.empty(LEASE) and not families.kill(LEASE)
    with pytest.raises(PermissionError):
        families.join(LEASE, pid)
    os.kill(pid, 9)
