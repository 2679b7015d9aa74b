"""Level 2 against the stand-in for nvidia-cuda-mps-control: which partition a slice gets, and what becomes of it."""

import pytest

from tessera.node_agent.enforcement.port import EnforcementError
from tessera.simulator.fakes.mps.servers import Refused
from tests.integration.node_agent.partitioned import PartitionedNode, name_of
from tests.integration.node_agent.test_mps import GPU


@pytest.fixture
async def node(tmp_path):
    node = PartitionedNode(tmp_path)
    await node.detect()
    return node


async def test_prepare_makes_a_partition_and_tells_its_name(node):
    edits = await node.limiter.prepare(node.give("a", 30))
    partition = edits.env["CUDA_MPS_SM_PARTITION"]
    assert edits.level == 2
    assert edits.env == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/tessera-mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{GPU}=2048M",
        "CUDA_MPS_SM_PARTITION": partition,
    }
    assert edits.mounts[0].host_path == str(node.static.pipe)
    assert node.chunks == {name_of(partition): 5}
    assert node.static.state["memory"][GPU] == "2048M"
    node.static.connect(500, partition=partition)


async def test_slices_have_disjoint_partitions_that_fit(node):
    partitions = [await node.prepare(name, 33) for name in "abc"]
    assert len(set(partitions)) == 3
    assert [node.chunks[name_of(one)] for one in partitions] == [5, 5, 5]


async def test_slices_without_gpu_core_share_one_chunk(node):
    first, second = await node.prepare("a"), await node.prepare("b", qos="best-effort")
    assert first == second and node.chunks == {name_of(first): 1}
    await node.release("a")
    assert list(node.chunks) == [name_of(first)]
    await node.release("b")
    assert node.chunks == {}


async def test_a_whole_gpus_compute_leaves_the_common_chunk(node):
    all_of_it = await node.prepare("a", 100)
    common = await node.prepare("b")
    assert (node.chunks[name_of(all_of_it)], node.chunks[name_of(common)]) == (15, 1)


async def test_where_no_chunk_is_left_the_slice_is_refused(node):
    await node.prepare("a", 99)
    item = node.give("b", 1)
    text = f"GPU {GPU} has 16 chunks of multiprocessors, 15 of them in partitions; none is left for 1 percent"
    with pytest.raises(EnforcementError, match=text) as caught:
        await node.limiter.prepare(item)
    assert not caught.value.permanent
    assert len(node.chunks) == 1


async def test_burstable_has_its_request_and_best_effort_low_priority(node):
    burst = await node.prepare("a", 25, qos="burstable", core_limit_percent=75)
    assert node.chunks[name_of(burst)] == 4
    spare = await node.limiter.prepare(node.give("b", 25, qos="best-effort"))
    assert spare.env["CUDA_MPS_CLIENT_PRIORITY"] == "1"


async def test_a_slice_over_two_gpus_is_watched(node):
    await node.detect("GPU-b")
    edits = await node.limiter.prepare(node.give("a", 30, gpus=(GPU, "GPU-b")))
    assert (edits.level, edits.env, node.chunks) == (0, {}, {})


async def test_the_same_slice_again_has_the_same_partition_also_after_a_restart(node):
    partition, common = await node.prepare("a", 30), await node.prepare("b")
    for _ in range(2):
        for item, before in zip(node.slices, (partition, common), strict=True):
            assert (await node.limiter.prepare(item)).env["CUDA_MPS_SM_PARTITION"] == before
        node.start()
        await node.detect()
    assert len(node.chunks) == 2
    assert await node.reasons() == []


async def test_a_partition_goes_when_its_clients_have_gone(node):
    partition = await node.prepare("a", 30)
    node.static.connect(500, partition=partition)
    await node.release("a")
    assert await node.reasons() == []
    assert list(node.chunks) == [name_of(partition)]
    node.static.disconnect(500)
    assert await node.reasons() == []
    assert node.chunks == {}


async def test_chunks_whose_clients_have_not_gone_are_not_given_away(node):
    partition = await node.prepare("a", 100)
    node.static.connect(500, partition=partition)
    await node.release("a")
    item = node.give("b", 50)
    with pytest.raises(EnforcementError, match="none is left for 50 percent"):
        await node.limiter.prepare(item)
    node.static.disconnect(500)
    assert (await node.limiter.prepare(item)).level == 2


async def test_the_daemon_refuses_programs_without_a_partition_or_with_another(node):
    partition = await node.prepare("a", 30)
    for wrong in ("", f"{GPU}/none", partition[:-1], name_of(partition)):
        with pytest.raises(Refused, match="CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"):
            node.static.connect(500, partition=wrong)


async def test_partitions_of_nobody_are_removed_unless_they_have_clients(node):
    mine = await node.prepare("a", 30)
    reply = [node.said(f"sm_partition add {GPU} 2") for _ in range(2)]
    busy = reply[0].split()[1]
    node.static.connect(500, partition=busy)
    assert await node.reasons() == []
    assert set(node.chunks) == {name_of(mine), name_of(busy)}


async def test_records_that_cannot_be_read_are_set_aside_and_the_container_has_to_start_again(node):
    await node.prepare("a", 30)
    path = node.static.pipe.with_name("partitions.json")
    path.write_text('{"version": 1, "part')
    node.start()
    await node.detect()
    with pytest.raises(EnforcementError, match="the SM partition of slice a has gone"):
        await node.again("a")
    again = await node.again("a")
    assert (set(node.chunks), path.with_suffix(".broken").exists()) == ({name_of(again)}, True)


async def test_no_percentage_is_ever_set(node):
    await node.prepare("a", 30)
    await node.limiter.observe()
    assert not [line for line in node.static.state["log"] if "percentage" in line]


async def test_a_ceiling_changed_from_inside_a_container_is_set_again(node):
    await node.prepare("a", 30)
    node.static.forget(GPU)
    assert await node.reasons() == ["MpsSettingChanged"]
    assert node.static.state["memory"][GPU] == "2048M"
