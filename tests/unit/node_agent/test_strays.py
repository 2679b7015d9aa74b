"""Who counts as having come past MPS."""

import pytest

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process
from tessera.node_agent.strays import ROUNDS, STRAY, Strays
from tessera.simulator.fakes.processes import FakeProcesses

POD, ID, GPU = "11111111-2222-3333-4444-555555555555", "ab" * 32, "GPU-a"


class Case:
    """One container with a process; ``listed``: the daemon's clients, ``held``: the slices that MPS holds."""

    def __init__(self, folder):
        self.processes = FakeProcesses(folder)
        self.processes.start(10, POD, ID)
        self.listed, self.held, self.mps, self.slices = frozenset(), {"a"}, False, ("a",)
        self.process = self.processes.look(10)
        self.strays = Strays(lambda: [self.usage], self.held.__contains__, lambda uuid: self.listed, self.processes)

    @property
    def usage(self):
        client = Client(self.process, 1, self.mps)
        return Usage(Container(POD, ID), GPU, 1, 2, (client,), self.slices)

    async def looks(self, times=ROUNDS):
        return [incident for _ in range(times) for incident in await self.strays.look()]


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


async def test_one_in_neither_list_is_ended_and_told_once(case):
    (incident,) = await case.looks(5)
    assert (incident.reason, incident.slices, case.processes.pids()) == (STRAY, ("a",), set())


async def test_one_look_is_not_enough_and_a_look_without_begins_anew(case):
    assert await case.looks(1) == []
    case.mps = True
    assert await case.looks(1) == []
    case.mps = False
    assert await case.looks(1) == []
    assert case.processes.pids() == {10}


@pytest.mark.parametrize(
    "change",
    [
        {"mps": True},
        {"listed": frozenset({10})},
        {"listed": None},
        {"slices": ()},
        {"slices": ("b",)},
        {"slices": ("a", "b")},
    ],
)
async def test_who_is_left_alone(case, change):
    for name, value in change.items():
        setattr(case, name, value)
    assert await case.looks(5) == []
    assert case.processes.pids() == {10}


async def test_another_process_of_the_same_id_is_left_alone(case):
    await case.looks(1)
    case.processes.start(10, POD, ID, started=99)
    await case.looks(1)
    assert case.processes.look(10) == Process(10, 99, Container(POD, ID))
