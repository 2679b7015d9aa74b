"""The real /proc, pidfds and, where this machine lets us make cgroups, the real end of a container."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import HostProcesses, Process

MOUNT = Path("/sys/fs/cgroup")
HIERARCHIES = [h for h in (MOUNT / "freezer", MOUNT / "unified", MOUNT) if (h / "cgroup.procs").exists()]
SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]


@pytest.fixture
def group():
    """A container's cgroup on this machine: the pod's UID, the container's id, and its folders."""
    pod, container = str(uuid.uuid4()), uuid.uuid4().hex * 2
    folders = [h / "tessera-test" / "kubepods" / f"pod{pod}" / container for h in HIERARCHIES]
    try:
        for folder in folders:
            folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this machine lets us make no cgroups")
    yield Container(pod, container), folders
    for folder in folders:
        for level in (folder, *list(folder.parents)[:3]):
            try:
                level.rmdir()
            except OSError:
                break


@pytest.fixture
def spawn(group):
    started = []

    def start():
        child = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
        started.append(child)
        child.stdout.readline()
        for folder in group[1]:
            (folder / "cgroup.procs").write_text(str(child.pid))
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_this_process_belongs_to_no_pod():
    found = HostProcesses().look(os.getpid())
    assert found is not None and found.started > 0 and found.container is None
    assert HostProcesses().end(found) is False
    assert HostProcesses().end_container(found) == 0


def test_a_process_that_is_gone():
    child = subprocess.Popen(["true"])
    child.wait()
    assert HostProcesses().look(child.pid) is None
    assert HostProcesses().end(Process(child.pid, 1, Container("p", "c"))) is False


def test_ends_exactly_the_process_that_was_meant(group, spawn):
    child, host = spawn(), HostProcesses()
    seen = host.look(child.pid)
    assert seen is not None and seen.container == group[0]
    assert host.end(Process(seen.pid, seen.started + 1, seen.container)) is False
    assert host.end(Process(seen.pid, seen.started, Container("other", "c"))) is False
    assert child.poll() is None
    assert host.end(seen) is True
    assert child.wait(10) == -signal.SIGKILL


def test_ends_every_process_of_the_container(group, spawn):
    children, host = [spawn() for _ in range(3)], HostProcesses()
    outside = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    try:
        assert host.end_container(host.look(children[0].pid)) == 3
        assert [child.wait(10) for child in children] == [-signal.SIGKILL] * 3
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()


def test_a_recorded_proc_is_read_but_nothing_is_ended(tmp_path):
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    pod, container = str(uuid.uuid4()), "ab" * 32
    (folder / "cgroup").write_text(f"0::/kubepods/pod{pod}/{container}\n")
    (folder / "stat").write_text(f"{os.getpid()} (a) b) (c) S " + "0 " * 18 + "777 0\n")
    host = HostProcesses(proc=tmp_path)
    seen = host.look(os.getpid())
    assert seen == Process(os.getpid(), 777, Container(pod, container))
    assert host.end(seen) is False
    assert host.end_container(seen) == 0
