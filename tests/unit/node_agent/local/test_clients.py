"""For which process a lease is held. The processes are this test's own children."""

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tessera.node_agent.kernel import HostKernel
from tessera.node_agent.local.clients import RECORD, Clients


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    (tmp_path / "run-1").mkdir()
    return Clients(tmp_path.joinpath)


def test_the_agent_that_comes_next_knows_the_client(clients: Clients, tmp_path: Path):
    me = clients.look(os.getpid())
    assert me is not None
    clients.put("run-1", me)
    again = Clients(tmp_path.joinpath)
    found = again.get("run-1")
    assert found == me and again.lives(me)
    assert again.get("run-2") is None


def test_a_client_that_has_ended_lives_no_more_also_as_a_zombie(clients: Clients):
    with subprocess.Popen(["sleep", "600"]) as child:
        client = clients.look(child.pid)
        assert client is not None and clients.lives(client)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not clients.lives(client) and clients.look(child.pid) is None
    assert not clients.lives(client)


def test_whoever_has_its_id_by_now_is_not_the_client(clients: Clients):
    """Who started later, or after the machine did."""
    me = clients.look(os.getpid())
    assert me is not None
    assert not clients.lives(replace(me, started=me.started - 1))
    assert not clients.lives(replace(me, boot="another"))


def test_where_nobody_can_look_it_has_not_ended(clients: Clients, monkeypatch: pytest.MonkeyPatch):
    me = clients.look(os.getpid())
    assert me is not None

    def read(*_: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(HostKernel, "read", read)
    with pytest.raises(OSError, match="Too many open files"):
        clients.lives(me)


@pytest.mark.parametrize("text", ["", "noise", "[]", "{}", '{"pid":"x","started":1,"boot":""}'])
def test_a_broken_record_is_none(clients: Clients, tmp_path: Path, text: str):
    (tmp_path / "run-1" / RECORD).write_text(text)
    assert clients.get("run-1") is None
