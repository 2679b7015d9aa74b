"""What the agent does when an MPS server faults, or a daemon hangs, babbles or vanishes; against the stand-in."""

import asyncio
import os
import shutil

import pytest

from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import install
from tessera.simulator.fakes.mps.servers import Refused
from tests.integration.node_agent.test_mps import GIB, GPU, Node, uid_of


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def impatient(tmp_path):
    """One whose control program has to answer within a moment; long enough for a busy machine."""
    return Node(tmp_path, answer_s=2.0)


async def reasons(node):
    return [incident.reason for incident in await node.limiter.observe()]


async def levels(node):
    return (await node.limiter.detect(GPU)).level


async def serving(node, *names):
    await node.limiter.detect(GPU)
    for number, name in enumerate(names):
        await node.limiter.prepare(node.give(name, 2 * GIB))
        node.run(500 + number, name)


async def test_fault_named_recovered_and_serving_again_within_ten_seconds(node):
    await serving(node, "a", "b", "c")
    assert await node.limiter.observe() == ()
    node.fake.fault(offender=501)
    told = []
    while not told or told[-1].reason != mps_reasons.RECOVERED:
        told += await node.limiter.observe()
        node.clock.now += 1.0
        assert node.clock.now <= 10.0
    assert [incident.reason for incident in told] == [mps_reasons.FAULT, mps_reasons.RECOVERED]
    assert "it was process 501 of pod default/b" in told[0].text
    assert (told[0].slices, told[1].kind) == (("a", "b", "c"), "Normal")
    first, *others = node.fake.state["terminated"]
    assert (first, sorted(others), node.processes.pids()) == (501, [500, 502], set())
    assert (await node.limiter.prepare(node.slices[0])).level == 1
    node.fake.connect(600)


async def test_whom_the_log_names_later_is_ended_first_and_named_at_the_end(node):
    await serving(node, "a", "b")
    await node.limiter.observe()
    node.fake.fault()
    (told,) = await node.limiter.observe()
    assert "neither its log nor the driver says whose it was" in told.text
    node.fake.fault(offender=501)
    node.clock.now = 3.0
    await node.limiter.observe()
    assert (node.fake.state["terminated"], node.processes.pids()) == ([501, 500], set())
    (told,) = await node.limiter.observe()
    assert "process 501 of pod default/b" in told.text


async def test_who_was_named_long_before_a_fault_is_not_blamed_for_it(node):
    await serving(node, "a", "b")
    node.fake.say(501)
    await node.limiter.observe()
    await node.limiter.observe()
    node.fake.fault()
    (told,) = await node.limiter.observe()
    assert "neither its log nor the driver says whose it was" in told.text


async def test_who_was_named_just_before_is(node):
    await serving(node, "a", "b")
    node.fake.say(501)
    await node.limiter.observe()
    node.fake.fault()
    (told,) = await node.limiter.observe()
    assert "it was process 501 of pod default/b" in told.text


async def test_where_the_log_is_silent_the_driver_names_the_client(node):
    await serving(node, "a", "b")
    await node.limiter.observe()
    node.blamed = (77, 501, 500)
    node.fake.fault()
    (told,) = await node.limiter.observe()
    assert "it was process 501 of pod default/b" in told.text


async def test_clients_that_go_by_themselves_are_not_ended(node):
    await serving(node, "a", "b")
    node.fake.fault()
    assert await reasons(node) == [mps_reasons.FAULT]
    with pytest.raises(Refused):
        node.fake.connect(600)
    node.fake.disconnect(500)
    node.fake.disconnect(501)
    node.clock.now = 5.0
    assert await reasons(node) == [mps_reasons.RECOVERED]
    assert (node.fake.state["terminated"], node.processes.pids()) == ([], {500, 501})


async def test_a_client_of_no_slice_is_never_ended(node):
    await serving(node, "a")
    node.processes.start(600)
    node.fake.connect(600)
    node.fake.fault()
    await node.limiter.observe()
    node.clock.now = 3.0
    await node.limiter.observe()
    assert (node.fake.state["terminated"], node.processes.pids()) == ([500], {600})


async def test_one_event_a_pod(node):
    await serving(node, "a")
    twin = node.give("a2", GIB)
    node.slices[-1] = type(twin)(twin.id, uid_of("a"), "default", "a", "side", twin.shares)
    node.fake.fault()
    (told,) = await node.limiter.observe()
    assert len(told.slices) == 1


async def test_a_fault_is_over_when_the_daemon_is_gone(node):
    await serving(node, "a")
    node.fake.fault()
    assert await reasons(node) == [mps_reasons.FAULT]
    node.fake.crash()
    assert await reasons(node) == [mps_reasons.LOST]
    assert (await levels(node), await reasons(node)) == (1, [])


@pytest.mark.parametrize("manner", [daemon.HANGS, daemon.BABBLES])
async def test_a_daemon_that_does_not_answer_admits_nobody_and_is_left_to_its_clients(impatient, manner):
    node = impatient
    await serving(node, "a")
    node.fake.behave(manner)
    assert await reasons(node) == []
    assert await reasons(node) == [mps_reasons.SILENT]
    assert await reasons(node) == []
    assert await levels(node) == -1
    with pytest.raises(EnforcementError, match="the MPS daemon does not answer, nobody is admitted"):
        await node.limiter.prepare(node.give("b", GIB))
    node.slices.pop()
    assert next(iter(node.fake.state["servers"].values()))["clients"].keys() == {"500"}
    node.fake.behave()
    assert await reasons(node) == [mps_reasons.RECOVERED]
    assert await levels(node) == 1


async def test_one_slow_answer_is_no_trouble(impatient):
    node = impatient
    await serving(node, "a")
    node.fake.behave(daemon.HANGS)
    assert await reasons(node) == []
    node.fake.behave()
    assert await reasons(node) == []
    node.fake.behave(daemon.HANGS)
    assert await reasons(node) == []


async def test_a_daemon_that_hangs_during_a_fault_is_told_and_both_recover(impatient):
    node = impatient
    await serving(node, "a")
    node.fake.fault()
    assert await reasons(node) == [mps_reasons.FAULT]
    node.fake.behave(daemon.HANGS)
    assert [await reasons(node), await reasons(node)] == [[], []]
    assert await levels(node) == -1
    node.fake.behave()
    node.clock.now = 5.0
    assert await reasons(node) == []
    assert node.processes.pids() == set()
    assert await reasons(node) == [mps_reasons.RECOVERED]
    assert await levels(node) == 1


async def test_without_a_slice_a_daemon_that_hangs_is_killed_and_started_anew(impatient, tmp_path):
    node = impatient
    await node.limiter.detect(GPU)
    program = tmp_path / "nvidia-cuda-mps-control-d"
    shutil.copy(shutil.which("sleep"), program)
    process = await asyncio.create_subprocess_exec(str(program), "1000")
    node.fake.embody(process.pid)
    node.fake.behave(daemon.HANGS)
    assert [await reasons(node), await reasons(node)] == [[], [mps_reasons.LOST]]
    assert await process.wait() == -9
    assert await levels(node) == 1


async def test_what_is_no_daemon_is_never_killed(impatient):
    node = impatient
    await node.limiter.detect(GPU)
    node.fake.embody(os.getpid())
    node.fake.behave(daemon.HANGS)
    assert [await reasons(node), await reasons(node)] == [[], [mps_reasons.SILENT]]
    assert await levels(node) == -1


async def test_a_daemon_that_cannot_be_started_again_closes_admission_until_it_can(node):
    await serving(node, "a")
    node.fake.crash()
    node.program_prints("Cannot find MPS control daemon process")
    assert await reasons(node) == [mps_reasons.LOST]
    assert await reasons(node) == []
    assert await levels(node) == -1
    install(node.folder)
    assert await reasons(node) == [mps_reasons.LOST]
    assert (await levels(node), node.fake.state["memory"][GPU]) == (1, "2048M")


async def test_an_agent_that_starts_beside_a_silent_daemon_admits_nobody(impatient):
    node = impatient
    await serving(node, "a")
    node.fake.behave(daemon.HANGS)
    node.start()
    assert await levels(node) == -1


async def test_limits_changed_from_inside_a_container_are_set_again(node):
    await serving(node, "a")
    server = str((await node.limiter._group((GPU,)).control.servers())[0])
    for command in (
        f"set_device_pinned_mem_limit {server} {GPU} 80G",
        f"set_active_thread_percentage {server} 13",
        "set_default_active_thread_percentage 7",
        f"set_default_device_pinned_mem_limit {GPU} 70G",
    ):
        daemon.command(node.fake.pipe, command)
        assert await reasons(node) == [mps_reasons.CHANGED]
        assert await reasons(node) == []
    state = node.fake.state
    assert state["servers"][server]["memory"][GPU] == state["memory"][GPU] == "2048M"
    assert state["servers"][server]["percent"] == state["percent"] == 100.0


async def test_a_slice_that_is_just_being_prepared_has_changed_nothing(node):
    await serving(node, "a")
    node.give("b", 8 * GIB)
    assert await reasons(node) == []
    assert node.fake.state["memory"][GPU] == "8192M"
    node.slices.pop()
    assert await reasons(node) == []
    assert node.fake.state["memory"][GPU] == "2048M"


async def test_a_client_that_somebody_else_has_had_terminated_is_told_with_its_pod(node):
    await serving(node, "a", "b")
    server = str((await node.limiter._group((GPU,)).control.servers())[0])
    assert await reasons(node) == []
    daemon.command(node.fake.pipe, f"terminate_client {server} 501")
    (told,) = await node.limiter.observe()
    assert (told.reason, told.kind, told.slices) == (mps_reasons.TERMINATED, "Warning", ("a", "b"))
    assert "was told to terminate client 501 of pod default/b, and not by the agent" in told.text
    assert await reasons(node) == []
    node.processes.remove(500)
    daemon.command(node.fake.pipe, f"terminate_client {server} 500")
    daemon.command(node.fake.pipe, f"terminate_client {server} 999")
    (told,) = await node.limiter.observe()
    assert "client 500 of pod default/a, 999 of no pod with a slice, and not" in told.text


async def test_what_the_agent_itself_terminates_is_not_told(node):
    await serving(node, "a", "b")
    await node.limiter.observe()
    assert await node.limiter.terminate(GPU, 501)
    assert await reasons(node) == []
    server = str((await node.limiter._group((GPU,)).control.servers())[0])
    node.fake.connect(501)
    daemon.command(node.fake.pipe, f"terminate_client {server} 501")
    assert await reasons(node) == [mps_reasons.TERMINATED]


async def test_quit_from_inside_a_container_is_undone(node):
    await serving(node, "a")
    daemon.command(node.fake.pipe, "quit")
    assert await reasons(node) == [mps_reasons.LOST]
    assert node.fake.state["memory"][GPU] == "2048M"


async def test_a_daemon_that_hangs_does_not_hold_up_the_looks_after_others(tmp_path):
    node = Node(tmp_path, answer_s=60.0, look_s=3.0)
    for uuid in (GPU, "GPU-b"):
        await node.limiter.detect(uuid)
    for name, uuid in (("a", GPU), ("b", "GPU-b")):
        await node.limiter.prepare(node.give(name, 4 * GIB, gpus=(uuid,)))
    node.fake.behave(daemon.HANGS)
    node.fake_of("GPU-b").crash()
    found = await asyncio.wait_for(node.limiter.observe(), 20.0)
    assert [(one.gpu_uuid, one.reason) for one in found] == [("GPU-b", mps_reasons.LOST)]
    await node.limiter.close()
