"""Programs that came past MPS while its daemon was away, with the real limiter and the stand-in for MPS."""

import pytest

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.node_agent.strays import ROUNDS, STRAY, Strays
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import install
from tests.integration.node_agent.test_mps import GIB, GPU, Node, uid_of

CLIENT, OUTSIDE = 500, 900
"""Processes of one container: a client of the daemon, and one that has found none."""
ABSENT = "Cannot find MPS control daemon process"


class Case(Node):
    """``served``: the processes that the driver lists as clients of a server, be it of a daemon that is gone."""

    def __init__(self, folder, **more):
        super().__init__(folder, **more)
        self.served = set()
        holds, clients_of = (lambda id_: self.limiter.holds(id_)), (lambda uuid: self.limiter.clients_of(uuid))
        self.strays = Strays(self.usages, holds, clients_of, self.processes)

    def usages(self):
        found = [self.processes.look(pid) for pid in sorted(self.processes.pids())]
        clients = tuple(Client(process, GIB // 4, process.pid in self.served) for process in found)
        return [Usage(clients[0].process.container, GPU, GIB // 2, 2 * GIB, clients, ("a",))] if clients else []

    async def serving(self):
        """A slice with a client, of which the driver knows."""
        await self.limiter.detect(GPU)
        await self.limiter.prepare(self.give("a", 2 * GIB))
        self.run(CLIENT, "a")
        self.served.add(CLIENT)
        return self

    def start_outside(self):
        self.processes.start(OUTSIDE, uid_of("a"), "ab" * 32)

    async def looks(self, times=ROUNDS):
        """The reasons of what was found."""
        found = []
        for _ in range(times):
            found += [*await self.limiter.observe(), *await self.strays.look()]
        return [incident.reason for incident in found]


@pytest.fixture
async def case(tmp_path):
    return await Case(tmp_path, answer_s=2.0).serving()


async def test_where_there_is_no_daemon_who_runs_is_outside_and_ended(case):
    case.fake.crash()
    case.program_prints(ABSENT)
    case.start_outside()
    assert await case.looks() == [mps_reasons.LOST, STRAY]
    assert case.processes.pids() == {CLIENT}, "whom the driver lists, a server that is left over goes on serving"


async def test_who_comes_while_it_is_away_is_found_at_any_time(case):
    case.fake.crash()
    case.program_prints(ABSENT)
    assert await case.looks(5) == [mps_reasons.LOST]
    case.start_outside()
    assert await case.looks() == [STRAY]


async def test_an_agent_that_starts_without_a_daemon_finds_them_too(case):
    case.fake.crash()
    case.program_prints(ABSENT)
    case.start_outside()
    case.start()
    with pytest.raises(EnforcementError, match="the daemon does not answer"):
        await case.limiter.prepare(case.slices[0])
    assert STRAY in await case.looks()


async def test_a_daemon_that_is_started_again_ends_nobody_who_is_its_client(case):
    case.fake.crash()
    assert await case.looks(1) == [mps_reasons.LOST]
    case.served.clear()
    case.fake.connect(CLIENT)
    assert await case.looks(5) == []
    assert case.processes.pids() == {CLIENT}


async def test_one_look_without_a_daemon_is_not_enough(case):
    """Who has just come to the one that was started again is in neither list at the first look."""
    case.fake.crash()
    case.program_prints(ABSENT)
    case.start_outside()
    assert await case.looks(1) == [mps_reasons.LOST]
    install(case.folder)
    assert await case.looks(1) == [mps_reasons.LOST]
    case.fake.connect(OUTSIDE)
    assert await case.looks(5) == []
    assert case.processes.pids() == {CLIENT, OUTSIDE}


@pytest.mark.parametrize("manner", [daemon.HANGS, daemon.BABBLES])
async def test_of_a_daemon_that_does_not_answer_nothing_is_known(case, manner):
    case.fake.behave(manner)
    case.start_outside()
    assert await case.looks(4) == [mps_reasons.SILENT]
    assert case.processes.pids() == {CLIENT, OUTSIDE}


async def test_a_daemon_that_was_gone_and_then_does_not_answer_is_not_known_to_have_no_clients(case):
    case.fake.crash()
    case.program_prints(ABSENT)
    assert await case.looks(1) == [mps_reasons.LOST]
    case.program_prints("Pardon?")
    case.start_outside()
    assert await case.looks(4) == []
    assert case.processes.pids() == {CLIENT, OUTSIDE}
