"""Which mode of MPS a GPU gets, and how it goes from one to the other; against the stand-in."""

import tempfile
from pathlib import Path

import pytest

from tessera.model.gpus import LEVEL_MPS, LEVEL_WATCH
from tessera.node_agent.enforcement.mps import TRY_AGAIN_S
from tessera.node_agent.enforcement.mps_groups import Extent
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tests.integration.node_agent.partitioned import DRIVER, OLD, PartitionedNode
from tests.integration.node_agent.test_mps import GPU
from tests.integration.node_agent.test_service import Host

WITHOUT_PARTITIONS = (LEVEL_WATCH, LEVEL_MPS)


@pytest.fixture
def node(tmp_path):
    return PartitionedNode(tmp_path)


def runs(fake):
    return (fake.pipe / daemon.STATE).exists()


async def test_a_trial_partition_is_made_and_taken_away_once(node):
    for _ in range(2):
        found = await node.detect()
        assert found.level == 2
        assert "16 of 16 chunks of multiprocessors are free" in found.evidence
    state = node.static.state
    assert (state["static"], state["multiuser"], state["made"], node.chunks) == (True, True, 1, {})
    assert not runs(node.percents)


async def test_an_old_driver_has_level_1_and_no_static_daemon_is_tried(tmp_path):
    node = PartitionedNode(tmp_path, driver=OLD, program=OLD)
    found = await node.detect()
    assert found.level == 1
    assert f"not level 2: static SM partitions need driver 590 or newer; found {OLD}" in found.evidence
    assert not node.static.pipe.exists()


async def test_an_unknown_driver_counts_as_old(tmp_path):
    found = await PartitionedNode(tmp_path, driver="").detect()
    assert (found.level, "found no version" in found.evidence) == (1, True)


async def test_where_static_mode_does_not_start_it_is_level_1_and_not_tried_again_for_a_while(tmp_path):
    node = PartitionedNode(tmp_path, program=OLD)
    found = await node.detect()
    assert (found.level, "not level 2: MPS does not work" in found.evidence) == (1, True)
    node.percents.forget("mark")
    assert (await node.detect()).evidence == found.evidence
    assert "mark" in node.percents.state["memory"]
    node.clock.now = TRY_AGAIN_S + 1
    assert (await node.detect()).level == 1
    assert "mark" not in node.percents.state["memory"]


async def test_where_no_partition_can_be_made_it_is_level_1(node, monkeypatch):
    monkeypatch.setenv(daemon.CHUNKS_ENV, "0")
    found = await node.detect()
    assert (found.level, "not level 2: static SM partitions do not work" in found.evidence) == (1, True)
    assert not runs(node.static)


async def test_no_program_is_level_0_with_both_reasons(node):
    (node.folder / "nvidia-cuda-mps-control").unlink()
    found = await node.detect()
    assert found.level == 0
    assert "not level 2: MPS does not work" in found.evidence and "not level 1: MPS does not work" in found.evidence


class Told:
    """A proof that says what it was started with, and finds ``doubt``."""

    def __init__(self, node, doubt=""):
        self.node, self.doubt, self.partitions = node, doubt, []

    async def prove(self, uuid, environment, within=()):
        self.partitions.append(environment["CUDA_MPS_SM_PARTITION"])
        self.node.static.connect(900, partition=environment["CUDA_MPS_SM_PARTITION"])
        self.node.static.disconnect(900)
        return self.doubt


async def test_the_probe_client_runs_on_the_trial_partition(tmp_path):
    node = PartitionedNode(tmp_path)
    node.proof = Told(node)
    node.start()
    assert [(await node.detect()).level for _ in range(2)] == [2, 2]
    assert (len(node.proof.partitions), node.chunks) == (1, {})


async def test_without_proof_the_gpu_is_not_even_watched(tmp_path):
    node = PartitionedNode(tmp_path)
    node.proof = Told(node, "the driver told of 0 MiB")
    node.start()
    found = await node.detect()
    assert (found.level, "the driver told of 0 MiB" in found.evidence) == (-1, True)
    assert not runs(node.percents)


async def test_level_1_keeps_a_gpu_as_long_as_its_slices_lie_there(node):
    node.start(WITHOUT_PARTITIONS)
    await node.detect()
    await node.limiter.prepare(node.give("a", 30))
    node.start()
    found = await node.detect()
    assert found.level == 1
    assert f"not level 2: slices lie on GPU {GPU} that are held at level 1" in found.evidence
    edits = await node.limiter.prepare(node.give("b", 30))
    assert (edits.level, "CUDA_MPS_SM_PARTITION" in edits.env) == (1, False)
    assert not runs(node.static)
    for name in "ab":
        await node.release(name)
    assert (await node.detect()).level == 2
    assert (runs(node.percents), runs(node.static)) == (False, True)


async def test_slices_of_level_2_stay_when_the_operator_asks_for_level_1(node):
    await node.detect()
    partition = await node.prepare("a", 30)
    node.start(WITHOUT_PARTITIONS)
    found = await node.detect()
    assert found.level == 0
    assert f"not level 1: slices lie on GPU {GPU} that are held at level 2" in found.evidence
    again = await node.limiter.prepare(node.slices[0])
    assert (again.level, again.env["CUDA_MPS_SM_PARTITION"]) == (2, partition)
    await node.release("a")
    assert node.chunks == {}
    assert (await node.detect()).level == 1
    assert (runs(node.percents), runs(node.static)) == (True, False)


async def test_a_static_daemon_without_slices_is_stopped_when_it_is_no_longer_asked_for(node):
    await node.detect()
    node.start(WITHOUT_PARTITIONS)
    assert (await node.detect()).level == 1
    assert (runs(node.percents), runs(node.static)) == (True, False)


async def test_a_daemon_that_does_not_stop_keeps_its_gpu(node):
    node.driver = OLD
    assert (await node.detect()).level == 1
    node.driver = DRIVER
    node.percents.behave(daemon.BABBLES)
    found = await node.detect()
    assert found.level == -1
    assert f"not level 2: the MPS daemon of GPU {GPU} at level 1 does not stop" in found.evidence
    assert not runs(node.static)
    node.percents.behave()
    assert (await node.detect()).level == 2
    assert not runs(node.percents)


async def test_a_daemon_of_an_earlier_run_that_does_not_stop_keeps_its_gpu(node):
    node.start(WITHOUT_PARTITIONS)
    await node.detect()
    node.percents.behave(daemon.BABBLES)
    node.start()
    assert "at level 1 does not stop" in (await node.detect()).evidence
    assert not runs(node.static)
    node.percents.behave()
    assert (await node.detect()).level == 2


async def test_a_group_with_percentages_takes_no_gpu_from_its_partitions(tmp_path):
    node = PartitionedNode(tmp_path, extent=Extent.NODE)
    await node.detect("GPU-b")
    FakeMps(tmp_path / "mps/static/GPU-b/pipe").behave(daemon.BABBLES)
    node.start()
    assert (await node.detect()).level == 2
    found = await node.detect("GPU-b")
    assert (found.level, f"not level 1: GPU {GPU} has level 2" in found.evidence) == (0, True)
    assert (runs(node.static), (await node.detect()).level) == (True, 2)


async def test_a_daemon_that_is_stopped_for_good_is_not_started_again_by_a_late_look(node):
    await node.detect()
    static = next(iter(node.limiter._rungs))
    group = static._group((GPU,))
    await group.observe()
    assert await static.leave(GPU) == ""
    assert await group.observe() == []
    assert not runs(node.static)


async def test_while_a_gpu_changes_its_mode_the_former_admits_nobody(node):
    node.start(WITHOUT_PARTITIONS)
    await node.detect()
    node.start()
    await node.limiter.detect(GPU)
    item = node.give("a", 30)
    with pytest.raises(EnforcementError, match=f"GPU {GPU} is no longer held at level 1"):
        await node.limiter.prepare(item)
    assert not runs(node.percents)


async def test_a_driver_that_became_too_old_lowers_a_gpu_with_slices(node):
    await node.detect()
    await node.prepare("a", 30)
    node.driver = OLD
    node.start()
    assert (await node.detect()).level == -1


async def test_close_stops_daemons_without_slices_only(node):
    await node.detect()
    await node.prepare("a", 30)
    await node.limiter.close()
    assert runs(node.static)
    await node.release("a")
    await node.limiter.close()
    assert not runs(node.static)


@pytest.fixture
def short():
    """A folder whose sockets have names that the kernel takes."""
    with tempfile.TemporaryDirectory(prefix="m", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def test_the_agent_holds_slices_on_partitions_and_keeps_them(machine, tmp_path, short):
    machine.state.driver = DRIVER
    machine.write()
    more = {"mps_control": str(install(tmp_path, DRIVER)), "mps_dir": short, "mps_proof": False}
    async with Host(machine, tmp_path, enforcement="partition", **more) as host:
        first = await host.prepare(host.slice("slot-a", core=30))
        assert first.level == 2
        assert first.env["CUDA_MPS_SM_PARTITION"].startswith(f"{machine.uuids[0]}/")
    async with Host(machine, tmp_path, enforcement="watch", **more) as host:
        again = await host.prepare(host.slice("slot-a", core=30))
        assert (again.level, again.env) == (2, first.env)
        assert (await host.prepare(host.slice("slot-b", pod="b" * 8))).level == 0
