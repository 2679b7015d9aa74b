"""Which GPUs a lease gets."""

from dataclasses import replace

import pytest

from tessera.model.assignment import Share
from tessera.model.demands import ContainerDemand
from tessera.model.gpus import Gpu, Health
from tessera.model.placements import Choice, Preferences
from tessera.model.quantities import GIB
from tessera.node_agent.local.choice import choose
from tessera.node_agent.slices import Slice
from tessera.reasons import Reason

ANY = Preferences()


def gpu(name: str, gib: int = 80, *, healthy: bool = True, level: int = 0, model: str = "H100") -> Gpu:
    return Gpu(name, model, gib * GIB, gib * GIB, health=Health(healthy, "" if healthy else "Xid 79"), level=level)


def held(*shares: Share) -> Slice:
    return Slice("s", "uid", "local", "uid-0", "command", shares)


def demand(gib: int = 4, core: int = 0, *, gpus: int = 1, whole: bool = False) -> ContainerDemand:
    return ContainerDemand("command", gpus, gib * GIB, core, whole)


def chosen(found: tuple[Share, ...] | Reason) -> list[str]:
    assert not isinstance(found, Reason), found
    return [share.uuid for share in found]


def test_the_fullest_that_has_room():
    gpus = [gpu("a"), gpu("b"), gpu("c")]
    slices = [held(Share("b", 40 * GIB)), held(Share("c", 78 * GIB))]
    assert chosen(choose(gpus, slices, demand(), ANY, 0)) == ["b"]


def test_compute_must_find_room_too():
    slices = [held(Share("a", GIB, 80))]
    assert chosen(choose([gpu("a"), gpu("b")], slices, demand(core=30), ANY, 0)) == ["b"]


def test_several_gpus_are_different_ones():
    found = choose([gpu("a"), gpu("b"), gpu("c")], [], demand(gpus=2, core=50), ANY, 0)
    assert chosen(found) == ["a", "b"]
    assert not isinstance(found, Reason) and {share.core_percent for share in found} == {50}


def grouped(name: str, group: str) -> Gpu:
    return replace(gpu(name, level=1), mps_group=group)


def test_gpus_that_hold_a_slice_together_are_of_one_group():
    gpus = [grouped("a", "g"), grouped("b", "h"), grouped("c", "g"), grouped("d", "h")]
    slices = [held(Share("a", GIB)), held(Share("b", 2 * GIB)), held(Share("d", 3 * GIB))]
    assert chosen(choose(gpus, slices, demand(gpus=2), ANY, 1)) == ["d", "b"]
    assert chosen(choose(gpus, slices, demand(gpus=3), ANY, 0)) == ["d", "b", "a"]
    refused = choose(gpus, slices, demand(gpus=3), ANY, 1)
    assert isinstance(refused, Reason) and "a: too few with room in its MPS group" in refused.text


def test_a_whole_gpu_is_an_empty_one():
    slices = [held(Share("a", GIB))]
    found = choose([gpu("a"), gpu("b", 24)], slices, demand(0, whole=True), ANY, -1)
    assert found == (Share("b", 24 * GIB, 0, whole=True),)
    assert isinstance(choose([gpu("a")], slices, demand(0, whole=True), ANY, -1), Reason)


def test_nothing_is_put_beside_a_whole_one():
    assert isinstance(choose([gpu("a")], [held(Share("a", 80 * GIB, 0, whole=True))], demand(), ANY, 0), Reason)


@pytest.mark.parametrize(
    ("one", "wanted", "level", "why"),
    [
        (gpu("a", 2), ANY, 0, "2Gi free"),
        (gpu("a", healthy=False), ANY, 0, "unhealthy, Xid 79"),
        (gpu("a", level=0), ANY, 1, "enforcement level 0"),
        (gpu("a"), Preferences(models=Choice(frozenset({"t4"}))), 0, "not a GPU that was asked for"),
    ],
)
def test_why_there_is_no_room(one: Gpu, wanted: Preferences, level: int, why: str):
    found = choose([one], [], demand(), wanted, level)
    assert isinstance(found, Reason)
    assert found.text == f"no room for 4Gi on a GPU of this machine (a: {why})"


def test_a_share_that_holds_no_context_is_of_a_larger_gpu():
    share = ContainerDemand("command", 1, 0, 2, least_bytes=GIB)
    assert chosen(choose([gpu("a", 24), gpu("b")], [], share, ANY, 0)) == ["b"]
    found = choose([gpu("a", 25)], [], share, ANY, 0)
    assert isinstance(found, Reason)
    assert found.text.endswith("(a: 512Mi is less than 1Gi, which a context takes)")


def test_a_machine_without_a_gpu():
    found = choose([], [], demand(core=30, gpus=2), ANY, 0)
    assert isinstance(found, Reason)
    assert found.text == "no room for 4Gi and 30 percent on each of 2 GPUs of this machine (it has none)"
