"""Which GPUs share an MPS daemon."""

from tessera.model.gpus import Gpu
from tessera.node_agent.enforcement.mps_groups import Extent, name_of, partition

A, B, C, D = (
    Gpu(uuid, "H100", 1, 1, nvlink_peers=peers) for uuid, peers in (("a", ("b",)), ("b", ()), ("c", ()), ("d", ("a",)))
)


def test_one_gpu_each_by_default():
    assert partition([A, B], Extent.GPU) == {"a": ("a",), "b": ("b",)}


def test_an_island_is_what_links_join_either_way():
    found = partition([D, C, B, A], Extent.NVLINK_ISLAND)
    assert found == {"a": ("a", "b", "d"), "b": ("a", "b", "d"), "d": ("a", "b", "d"), "c": ("c",)}


def test_a_node_is_one_group():
    assert partition([B, A], Extent.NODE) == {"a": ("a", "b"), "b": ("a", "b")}


def test_groups_that_are_kept_take_their_gpus_out_of_the_others():
    found = partition([A, B, C], Extent.NODE, kept=[("b",)])
    assert found == {"b": ("b",), "a": ("a", "c"), "c": ("a", "c")}
    assert partition([A, B, C], Extent.GPU, kept=[("a", "c")])["c"] == ("a", "c")


def test_no_gpu_is_in_two_groups():
    for extent in Extent:
        for kept in ([], [("a", "c")], [("b",), ("c",)]):
            found = partition([A, B, C, D], extent, kept)
            assert all(found[uuid] == group for group in found.values() for uuid in group)
            assert found.keys() == {"a", "b", "c", "d"}


def test_a_folder_s_name_is_the_gpu_s_or_short():
    assert name_of(("GPU-a",)) == "GPU-a"
    long = tuple(f"GPU-{n:036}" for n in range(16))
    assert len(name_of(long)) < 20
    assert name_of(long) != name_of(long[1:])
