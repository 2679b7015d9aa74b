"""The watcher ends the process that it meant, also where the id goes to another between any two of its looks."""

import pytest

from tessera.node_agent.processes import Process
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.node_agent.test_service import GIB, Host

OTHER, THEIRS = "99999999-2222-3333-4444-555555555555", "cd" * 32
BEFORE_IT_IS_TOLD = (1, 2)
"""Of the looks at a process that is known: one by which its pod hears of it, one by which it is to end. A third comes
right before MPS is told, a fourth before it is killed."""


class GivenAway(FakeProcesses):
    """Right after it was looked at for the ``after``-th time, the process ends and its id goes to another's."""

    after, looks = 0, 0

    def look(self, pid: int) -> Process | None:
        found = super().look(pid)
        self.looks += 1
        if self.looks == self.after:
            self.start(pid, OTHER, THEIRS, started=2)
        return found


@pytest.fixture
async def host(machine, tmp_path):
    """An agent whose rounds the test makes itself, with MPS."""
    more = {"enforcement": "mps", "mps_control": str(install(tmp_path)), "mps_dir": tmp_path / "m", "mps_proof": False}
    never = {"accounting_every_s": 3600.0, "inventory_every_s": 3600.0, "over_limit_container_grace_s": 3600.0}
    async with Host(machine, tmp_path, GivenAway, **more, **never) as host:
        yield host


async def overrun(host, after):
    """What a container over its limit comes to: the clients that MPS was told to end."""
    await host.prepare(host.slice(mem=GIB))
    mps = FakeMps(host.settings.mps_root / host.machine.uuids[0] / "pipe")
    host.run(10, 0, 2 * GIB)
    mps.connect(10)
    await host.service.watcher.tick()
    host.processes.looks, host.processes.after = 0, after
    for _ in BEFORE_IT_IS_TOLD:
        host.later_s += 1
        await host.service.watcher.tick()
    return mps.state["terminated"]


async def test_a_client_over_its_limit_lets_go_and_is_killed(host):
    assert await overrun(host, after=0) == [10]
    assert host.processes.pids() == set()


@pytest.mark.parametrize("after", BEFORE_IT_IS_TOLD)
async def test_whoever_has_the_id_now_is_neither_told_nor_killed(host, after):
    assert await overrun(host, after) == []
    assert host.processes.container_of(10).pod_uid == OTHER


async def test_whoever_has_the_id_since_the_last_look_is_not_killed(host):
    await overrun(host, after=len(BEFORE_IT_IS_TOLD) + 1)
    assert host.processes.container_of(10).pod_uid == OTHER
