"""The stop path in simulated time, against the stand-in for MPS and a simulated host."""

from dataclasses import replace

import pytest

from tessera.kube import wire
from tessera.kube.course import Deleted, Replaced, Upserted
from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.stopping import Deadlines, StopPath
from tessera.simulator.fakes.mps import daemon
from tests.integration.node_agent.test_mps import GIB, GPU, Node

UID = "11111111-2222-3333-4444-555555555555"
MAIN = Container(UID, "ab" * 32)
KILLED_AT = 1_800_000_030.0


def pod(uid=UID, at="2027-01-15T08:00:30Z"):
    return wire.Pod(metadata=wire.ObjectMeta(name="p", namespace="default", uid=uid, deletion_timestamp=at))


class Stop:
    """A pod with two clients on one GPU, and the wall clock."""

    def __init__(self, folder):
        self.node, self.now = Node(folder), KILLED_AT - 30
        self.processes = self.node.processes
        self.deadlines = Deadlines()
        self.path = StopPath(self.deadlines, lambda: [self.usage], self.processes, self.node.limiter, lambda: self.now)
        self.usage = Usage(MAIN, GPU, 0, GIB, (), ("a",))

    async def serve(self, *pids):
        await self.node.limiter.detect(GPU)
        await self.node.limiter.prepare(self.node.give("a", GIB))
        self.node.slices[-1] = replace(self.node.slices[-1], pod_uid=UID)
        for pid in pids:
            self.processes.start(pid, UID, MAIN.container_id)
            self.node.fake.connect(pid)
        clients = tuple(Client(self.processes.look(pid), GIB, True) for pid in pids)
        self.usage = Usage(MAIN, GPU, 0, GIB, clients, ("a",))

    @property
    def terminated(self):
        return self.node.fake.state["terminated"]


@pytest.fixture
def stop(tmp_path):
    return Stop(tmp_path)


async def test_clients_that_live_shortly_before_the_kill_are_ended_in_the_servers_way(stop):
    await stop.serve(10, 11)
    stop.deadlines(Upserted(pod()))
    stop.now = KILLED_AT - 1.6
    await stop.path.tick()
    assert stop.terminated == []
    stop.now = KILLED_AT - 1.5
    while len(stop.terminated) < 2:
        await stop.path.tick()
    await stop.path.tick()
    assert sorted(stop.terminated) == [10, 11]
    assert stop.processes.pids() == {10, 11}


async def test_fifty_pods_stopped_with_notice_wedge_nobody(stop):
    await stop.serve(10)
    for number in range(50):
        uid = UID[:-2] + f"{number:02}"
        container = Container(uid, "cd" * 32)
        stop.processes.start(100, uid, container.container_id, started=number)
        stop.node.fake.connect(100)
        client = Client(stop.processes.look(100), GIB, True)
        stop.usage = Usage(container, GPU, 0, GIB, (client,), ("a",))
        stop.deadlines(Upserted(pod(uid)))
        stop.now = KILLED_AT - 1.0
        while len(stop.terminated) == number:  # a busy machine may have no time for the control program at once
            await stop.path.tick()
        stop.node.fake.kill(100)
        stop.deadlines(Deleted(pod(uid)))
    assert stop.terminated == [100] * 50
    assert await stop.node.limiter.observe() == ()


async def test_a_kill_without_notice_wedges_the_server_and_it_recovers_within_ten_seconds(stop):
    await stop.serve(10, 11)
    stop.node.fake.kill(10)
    told = []
    while not told or told[-1].reason != mps_reasons.RECOVERED:
        told += await stop.node.limiter.observe()
        stop.node.clock.now += 1.0
        assert stop.node.clock.now <= 10.0
    assert [incident.reason for incident in told] == [mps_reasons.FAULT, mps_reasons.RECOVERED]
    assert stop.processes.pids() == {10}


async def test_grace_0_is_due_at_once_and_a_shorter_grace_moves_the_time(stop):
    stop.deadlines(Upserted(pod()))
    assert stop.deadlines.due(KILLED_AT - 20) == frozenset()
    stop.deadlines(Upserted(pod(at="2027-01-15T08:00:10Z")))
    assert stop.deadlines.due(KILLED_AT - 20) == {UID}
    stop.deadlines(Deleted(pod()))
    assert stop.deadlines.due(KILLED_AT) == frozenset()


async def test_a_new_list_forgets_pods_that_are_gone(stop):
    stop.deadlines(Upserted(pod()))
    stop.deadlines(Replaced((pod("other"),)))
    assert stop.deadlines.due(KILLED_AT) == {"other"}


@pytest.mark.parametrize("at", [None, "", "soon"])
async def test_a_pod_that_is_not_stopped_is_never_due(stop, at):
    stop.deadlines(Upserted(pod(at=at)))
    assert stop.deadlines.due(KILLED_AT) == frozenset()


async def test_another_pods_clients_are_left_alone(stop):
    await stop.serve(10)
    stop.deadlines(Upserted(pod("99999999-2222-3333-4444-555555555555")))
    stop.now = KILLED_AT
    await stop.path.tick()
    assert stop.terminated == []


async def test_a_process_id_that_was_given_away_is_left_alone(stop):
    await stop.serve(10)
    stop.processes.start(10, UID, MAIN.container_id, started=99)
    stop.deadlines(Upserted(pod()))
    stop.now = KILLED_AT
    await stop.path.tick()
    assert stop.terminated == []


async def test_a_daemon_that_hangs_holds_up_nothing_and_is_asked_again(stop):
    await stop.serve(10, 11)
    stop.node.fake.behave(daemon.HANGS)
    stop.deadlines(Upserted(pod()))
    stop.now = KILLED_AT
    await stop.path.tick()
    stop.node.fake.behave()
    assert stop.terminated == []
    while sorted(stop.terminated) != [10, 11]:
        await stop.path.tick()
