"""Whose launches wait for a turn, by what keeps each slice: the pages that the shim reads."""

import struct

import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_DRIVER, LEVEL_MPS, LEVEL_NONE, LEVEL_PARTITION, LEVEL_WATCH, Gpu
from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.enforcement.keepers import Keepers
from tessera.node_agent.enforcement.limits_files import PACE
from tessera.node_agent.enforcement.pace import Pace
from tessera.node_agent.enforcement.pacing import FREE, Turn, encode
from tessera.node_agent.processes import Process
from tessera.node_agent.slices import Slice, SliceStore

GIB = 1 << 30
LEVELS = (LEVEL_NONE, LEVEL_WATCH, LEVEL_MPS, LEVEL_PARTITION, LEVEL_DRIVER)


class Node:
    """A GPU of ``level`` with slices that all have work. ``pace`` is a fresh agent's, on the same disk."""

    def __init__(self, folder):
        self.folder, self.level = folder, LEVEL_WATCH
        self.store = SliceStore(folder)

    def give(self, name, percent, kept, **more):
        self.store.put(Slice(name, f"pod-{name}", "default", name, "main", (Share("G", GIB, percent),), **more))
        if kept is not None:
            self._keepers().put(name, kept)

    async def pace(self):
        pace = Pace(self.store, self._keepers().get, works=lambda pid: None)
        await pace.apply(pace.paced([Gpu("G", "H100", 80 * GIB, 80 * GIB, level=self.level)]), self._usages())

    def turn(self, name):
        """The word that the shim reads."""
        _, _, shared, turn = struct.unpack_from("<4Q", (self.store.folder(name) / PACE).read_bytes())
        assert bool(shared) == (turn != encode(FREE))
        return turn

    def length_us(self, name):
        return self.turn(name) & 0xFFFFFF

    def waits(self):
        return {item.id for item in self.store if self.turn(item.id) != encode(FREE)}

    def _keepers(self):
        return Keepers(self.folder / "keepers", [item.id for item in self.store])

    def _usages(self):
        process = Process(7, 1, Container("pod", "c"))
        return [Usage(process.container, "G", 0, GIB, (Client(process, 0),), (item.id,)) for item in self.store]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.mark.parametrize(
    ("kept", "waiting"),
    [
        (LEVEL_WATCH, {"steady", "burst", "spare"}),
        (LEVEL_DRIVER, {"steady", "burst", "spare"}),
        (LEVEL_MPS, {"burst", "spare"}),
        (LEVEL_PARTITION, set()),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_what_keeps_a_slice_says_whether_it_waits_whatever_the_gpu_has_now(node, kept, waiting, level):
    node.give("steady", 50, kept)
    node.give("burst", 30, kept, qos="burstable", core_limit_percent=60)
    node.give("spare", 20, kept, qos="best-effort")
    node.level = level
    await node.pace()
    assert node.waits() == waiting


@pytest.mark.parametrize("level", LEVELS)
async def test_watched_slices_have_their_shares_in_turns_beside_one_that_mps_holds(node, level):
    node.give("thirty", 30, LEVEL_WATCH)
    node.give("held", 20, LEVEL_MPS)
    node.give("fifty", 50, LEVEL_WATCH)
    node.level = level
    await node.pace()
    assert node.waits() == {"thirty", "fifty"}
    assert [node.length_us(name) for name in ("thirty", "fifty")] == [30_000, 50_000]


async def test_a_watched_slice_is_lent_nothing_that_one_under_mps_was_promised(node):
    node.give("burst", 30, LEVEL_WATCH, qos="burstable", core_limit_percent=100)
    node.give("held", 50, LEVEL_MPS)
    await node.pace()
    assert node.turn("burst") == encode(Turn(0, 50_000))


async def test_a_slice_that_asks_for_no_compute_takes_turns_with_those_under_mps(node):
    node.give("plain", 0, LEVEL_WATCH)
    node.give("held", 50, LEVEL_MPS)
    node.level = LEVEL_MPS
    await node.pace()
    assert node.length_us("plain") == 50_000


async def test_a_slice_whose_keeper_is_not_known_is_had_in_turns(node):
    node.give("a", 30, None)
    node.level = LEVEL_MPS
    await node.pace()
    assert node.waits() == {"a"}


async def test_without_anybody_who_asks_for_compute_nobody_waits(node):
    node.give("plain", 0, LEVEL_WATCH)
    await node.pace()
    assert node.waits() == set()
