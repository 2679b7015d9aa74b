"""MPS daemons that serve several GPUs, against the stand-in for the control program."""

import pytest

from tessera.node_agent.enforcement import mps_reasons
from tessera.node_agent.enforcement.mps_groups import Extent
from tessera.node_agent.enforcement.port import EnforcementError
from tests.integration.node_agent.test_mps import GIB, GPU, Node

B, C = "GPU-b", "GPU-c"


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, Extent.NVLINK_ISLAND, gpus=(GPU, B, C), links={GPU: (B,)})


async def detect(node):
    return [(await node.limiter.detect(uuid)).level for uuid in node.gpus]


async def test_one_daemon_serves_the_gpus_of_a_group_by_uuid(node):
    assert await detect(node) == [1, 1, 1]
    assert node.fake_of(GPU, B).state["devices"] == [GPU, B]
    assert node.fake_of(C).state["devices"] == [C]
    assert sorted(path.name for path in node.folder.glob("*/pipe/state.json")) == ["state.json"] * 2


async def test_a_slice_inside_a_group_is_held_and_one_over_two_is_watched(node):
    await detect(node)
    edits = await node.limiter.prepare(node.give("a", 4 * GIB, 30, gpus=(GPU, B)))
    assert edits.level == 1
    assert edits.env == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/tessera-mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{GPU}=4096M,{B}=4096M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }
    assert node.fake_of(GPU, B).state["memory"] == {GPU: "4096M", B: "4096M"}
    assert (await node.limiter.prepare(node.give("b", GIB, gpus=(B, C)))).level == 0


async def test_a_smaller_slice_sees_its_own_gpu_only(node):
    await detect(node)
    assert (await node.limiter.prepare(node.give("a", GIB, gpus=(B,)))).env["CUDA_VISIBLE_DEVICES"] == B
    assert "CUDA_VISIBLE_DEVICES" not in (await node.limiter.prepare(node.give("b", GIB, gpus=(C,)))).env


async def test_a_burst_limit_is_the_sum_over_the_gpus(node):
    await detect(node)
    item = node.give("a", GIB, 20, gpus=(GPU, B), qos="burstable", core_limit_percent=120)
    assert (await node.limiter.prepare(item)).env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "60"


async def test_a_fault_closes_the_whole_group_and_no_other(node):
    await detect(node)
    for name, uuid in (("a", GPU), ("b", B), ("c", C)):
        await node.limiter.prepare(node.give(name, GIB, gpus=(uuid,)))
    node.fake_of(GPU, B).connect(500)
    node.fake_of(GPU, B).fault()
    (incident,) = await node.limiter.observe()
    assert (incident.reason, incident.gpu_uuid, incident.also) == (mps_reasons.FAULT, GPU, (B,))
    assert sorted(incident.slices) == ["a", "b"]
    with pytest.raises(EnforcementError, match=f"GPUs {GPU}, {B}: a fault of one MPS client"):
        await node.limiter.prepare(node.give("d", GIB, gpus=(B,)))
    assert await detect(node) == [-1, -1, 1]


async def test_a_group_with_a_slice_outlives_a_change_of_the_setting(node):
    await detect(node)
    node.give("a", GIB, gpus=(B,))
    node.extent = Extent.GPU
    node.start()
    assert node.limiter.group_of(GPU) == (GPU, B)
    assert await detect(node) == [1, 1, 1]
    assert node.fake_of(GPU, B).state["devices"] == [GPU, B]


async def test_a_daemon_without_a_slice_is_stopped_before_another_serves_its_gpu(node):
    await detect(node)
    node.extent = Extent.NODE
    node.start()
    assert await detect(node) == [1, 1, 1]
    assert node.fake_of(GPU, B, C).state["devices"] == [GPU, B, C]
    for former in ((GPU, B), (C,)):
        with pytest.raises(FileNotFoundError):
            assert node.fake_of(*former).state


async def test_a_group_is_told_by_one_name_and_a_gpu_by_itself_by_none(node):
    names = {uuid: node.limiter.group_name(uuid) for uuid in node.gpus}
    assert names[GPU] == names[B] != "" and names[C] == ""
