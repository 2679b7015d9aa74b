"""What becomes of partitions when the agent or machine stops at any point, or the daemon fails; with the stand-in."""

import contextlib

import pytest

from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.enforcement.mps_lspart import Layout
from tessera.node_agent.enforcement.mps_partition_records import Records
from tessera.node_agent.enforcement.mps_partitions import Partitions
from tessera.node_agent.enforcement.mps_static import StaticControl
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.servers import Refused
from tests.fakes.disk import FlakyDisk, PowerCut
from tests.integration.node_agent.partitioned import PartitionedNode, name_of
from tests.integration.node_agent.test_mps import GPU


@pytest.fixture
async def node(tmp_path):
    node = PartitionedNode(tmp_path)
    await node.detect()
    return node


class Fragile:
    """The partitions of a GPU whose disk stops at a step. ``restart``: the agent again, on the same disk."""

    def __init__(self, folder):
        self.node, self.disk = PartitionedNode(folder), FlakyDisk()
        self.control = StaticControl(self.node.program, self.node.static.pipe.parent, (GPU,))
        self.restart()

    def restart(self):
        records = Records(self.control.pipe.with_name("partitions.json"), self.disk)
        self.partitions = Partitions(GPU, self.control, records, lambda: self.node.slices)

    async def crash(self, step, lose_unflushed, work):
        """The steps of ``work`` that succeed are ``step``; says whether it was cut short."""
        self.disk.crash_in = step
        cut = False
        try:
            await work
        except PowerCut:
            cut = True
        self.disk.power_up(lose_unflushed=lose_unflushed)
        self.restart()
        return cut


@pytest.fixture
async def fragile(tmp_path):
    fragile = Fragile(tmp_path)
    await fragile.control.start()
    return fragile


@pytest.mark.parametrize("lose_unflushed", [False, True])
@pytest.mark.parametrize("step", range(7))
async def test_a_crash_while_a_partition_is_made_leaves_one_at_the_next_try(fragile, step, lose_unflushed):
    item = fragile.node.give("a", 30)
    assert await fragile.crash(step, lose_unflushed, fragile.partitions.ensure(item)) is (step < 6)
    with contextlib.suppress(EnforcementError):
        await fragile.partitions.ensure(item)  # when the agent starts: no container was told a name
    partition = await fragile.partitions.ensure(item)
    assert fragile.node.chunks == {name_of(partition): 5}
    assert fragile.partitions.void() == []


@pytest.mark.parametrize("lose_unflushed", [False, True])
@pytest.mark.parametrize("step", range(6))
async def test_a_crash_while_a_partition_is_made_leaves_none_without_its_slice(fragile, step, lose_unflushed):
    await fragile.crash(step, lose_unflushed, fragile.partitions.ensure(fragile.node.give("a", 30)))
    fragile.node.slices.clear()
    await fragile.partitions.settle()
    assert (fragile.node.chunks, fragile.partitions._records.get("a")) == ({}, None)


@pytest.mark.parametrize("lose_unflushed", [False, True])
@pytest.mark.parametrize("step", range(4))
async def test_a_crash_while_a_partition_is_removed_leaves_none_at_the_next_try(fragile, step, lose_unflushed):
    await fragile.partitions.ensure(fragile.node.give("a", 30))
    kept = await fragile.partitions.ensure(fragile.node.give("b"))
    del fragile.node.slices[0]
    assert await fragile.crash(step, lose_unflushed, fragile.partitions.settle()) is (step < 3)
    await fragile.partitions.settle()
    assert fragile.partitions.take_lost() == []
    assert set(fragile.node.chunks) == {name_of(kept)}
    assert [slice_id for slice_id, _ in fragile.partitions._records] == ["b"]


async def test_a_trial_that_a_crash_cut_short_leaves_nothing(node):
    node.said(f"sm_partition add {GPU} 1")
    partition = await node.prepare("a", 30)
    assert list(node.chunks) == [name_of(partition)]


async def test_partitions_go_with_their_daemon_and_their_pods_are_told(node):
    before = {name: await node.prepare(name, core) for name, core in (("a", 30), ("b", 0), ("c", 0))}
    node.static.crash()
    (lost,) = await node.limiter.observe()
    assert (lost.reason, lost.slices) == (mps_reasons.LOST, ("a", "b", "c"))
    (gone,) = await node.limiter.observe()
    assert (gone.reason, gone.slices) == (mps_reasons.PARTITION_LOST, ("a", "b", "c"))
    assert await node.reasons() == []
    for partition in before.values():
        with pytest.raises(Refused):
            node.static.connect(500, partition=partition)


async def test_a_container_that_is_started_again_has_a_new_partition(node):
    await node.prepare("a", 30)
    node.static.crash()
    await node.reasons()
    await node.reasons()
    after = await node.again("a")
    assert node.chunks == {name_of(after): 5}
    node.run(500, "a", after)
    assert (await node.reasons(), node.processes.pids()) == ([], {500})


async def test_a_name_that_is_given_again_serves_nobody_who_was_told_it_before(node):
    before = await node.prepare("a", 30)
    node.static.crash()
    await node.reasons()
    assert await node.reasons() == [mps_reasons.PARTITION_LOST]
    with node.static_state() as state:
        state["made"] = 1
    assert await node.prepare("b", 30) == before
    node.run(500, "a", before)
    node.run(501, "b", before)
    await node.reasons()
    assert (node.processes.pids(), node.static.state["terminated"]) == ({501}, [500])


async def test_a_new_partition_with_a_recorded_name_is_the_new_slices(fragile):
    node = fragile.node
    await fragile.partitions.ensure(node.give("a", 30))
    node.static.crash()
    await fragile.control.start()
    swept = fragile.partitions._swept

    async def before_the_crash():
        return Layout(16, 0, ())

    fragile.partitions._swept = before_the_crash
    await fragile.partitions.ensure(node.give("b", 30))
    fragile.partitions._swept = swept
    assert [item.id for item in fragile.partitions.void()] == ["a"]
    assert [item.id for item in fragile.partitions.take_lost()] == ["a"]


async def test_room_for_slices_whose_partition_is_gone_is_not_given_away(node):
    await node.prepare("a", 50)
    node.static.crash()
    await node.limiter.observe()
    await node.limiter.observe()
    other, again = await node.prepare("b", 50), await node.again("a")
    assert (node.chunks[name_of(other)], node.chunks[name_of(again)]) == (8, 7)


async def test_an_agent_that_starts_after_its_daemon_died_tells_the_pods_and_gives_no_name_away(node):
    for name, core in (("a", 30), ("b", 0), ("c", 0)):
        await node.prepare(name, core)
    node.static.crash()
    node.start()
    assert (await node.detect()).level == 2
    for name in "abc":
        with pytest.raises(EnforcementError, match=f"the SM partition of slice {name} has gone; it gets another when"):
            await node.again(name)
    assert node.chunks == {}
    (gone,) = await node.limiter.observe()
    assert (gone.reason, gone.slices) == (mps_reasons.PARTITION_LOST, ("a", "b", "c"))
    common = await node.again("b")
    node.run(500, "b", common)
    node.run(501, "c", common)
    assert (await node.reasons(), node.processes.pids()) == ([], {500})
    node.start()
    await node.detect()
    with pytest.raises(EnforcementError, match="slice c has gone"):
        await node.again("c")
    assert [await node.again("b"), await node.again("c")] == [common, common]


async def test_a_loss_that_is_found_while_another_slice_is_released_is_told_too(node):
    for name in "ab":
        await node.prepare(name, 30)
    node.static.crash()
    await node.reasons()
    await node.release("b")
    (gone,) = await node.limiter.observe()
    assert (gone.reason, gone.slices) == (mps_reasons.PARTITION_LOST, ("a",))


async def test_a_partition_that_a_program_removed_is_told(node):
    partition = await node.prepare("a", 30)
    node.said(f"sm_partition rm {GPU} {name_of(partition)}")
    assert await node.reasons() == [mps_reasons.PARTITION_LOST]
    assert await node.reasons() == []


@pytest.mark.parametrize("manner", [daemon.HANGS, daemon.BABBLES])
async def test_a_daemon_that_does_not_answer_admits_nobody_and_keeps_its_partitions(tmp_path, manner):
    node = PartitionedNode(tmp_path, answer_s=1.0)
    await node.detect()
    partition = await node.prepare("a", 30)
    node.static.behave(manner)
    assert [await node.reasons(), await node.reasons()] == [[], [mps_reasons.SILENT]]
    assert (await node.detect()).level == -1
    item = node.give("b", 30)
    node.levels[GPU] = 2
    with pytest.raises(EnforcementError, match="the MPS daemon does not answer, nobody is admitted"):
        await node.limiter.prepare(item)
    node.slices.remove(item)
    node.static.behave()
    assert await node.reasons() == [mps_reasons.RECOVERED]
    assert ((await node.detect()).level, list(node.chunks)) == (2, [name_of(partition)])


async def test_a_daemon_that_babbles_while_a_slice_is_released_is_settled_later(node):
    await node.prepare("a", 30)
    node.static.behave(daemon.BABBLES)
    await node.release("a")
    node.static.behave()
    assert await node.reasons() == []
    assert node.chunks == {}


async def test_a_fault_closes_admission_and_partitions_stay(node):
    partition = await node.prepare("a", 30)
    node.processes.start(500, node.slices[0].pod_uid, "ab" * 32)
    node.static.connect(500, partition=partition)
    node.static.fault()
    assert await node.reasons() == [mps_reasons.FAULT]
    assert (await node.detect()).level == -1
    node.clock.now = 3.0
    assert [await node.reasons(), await node.reasons()] == [[], [mps_reasons.RECOVERED]]
    assert ((await node.detect()).level, list(node.chunks)) == (2, [name_of(partition)])
