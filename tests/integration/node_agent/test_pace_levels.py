"""Whose launches wait for a turn, by the level of the GPU: the pages that the shim reads."""

import struct

import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import LEVEL_MPS, LEVEL_NONE, LEVEL_PARTITION, LEVEL_WATCH, Gpu
from tessera.node_agent.enforcement.limits_files import PACE
from tessera.node_agent.enforcement.pace import Pace
from tessera.node_agent.enforcement.pacing import FREE, encode
from tessera.node_agent.slices import Slice, SliceStore

GIB = 1 << 30


@pytest.fixture
def store(tmp_path):
    store = SliceStore(tmp_path)
    for name, percent, more in (
        ("steady", 50, {}),
        ("burst", 30, {"qos": "burstable", "core_limit_percent": 60}),
        ("spare", 20, {"qos": "best-effort"}),
    ):
        store.put(Slice(name, f"pod-{name}", "default", name, "main", (Share("G", GIB, percent),), **more))
    return store


def waits(store, name):
    """Whether the page of a slice has a turn for its GPU."""
    _, _, shared, turn = struct.unpack_from("<4Q", (store.folder(name) / PACE).read_bytes())
    assert bool(shared) == (turn != encode(FREE))
    return bool(shared)


@pytest.mark.parametrize(
    ("level", "waiting"),
    [
        (LEVEL_NONE, {"steady", "burst", "spare"}),
        (LEVEL_WATCH, {"steady", "burst", "spare"}),
        (LEVEL_MPS, {"burst", "spare"}),
        (LEVEL_PARTITION, set()),
    ],
)
async def test_mps_leaves_the_guaranteed_free(store, level, waiting):
    pace = Pace(store, works=lambda pid: None)
    await pace.apply(pace.paced([Gpu("G", "H100", 80 * GIB, 80 * GIB, level=level)]), ())
    assert {name for name in ("steady", "burst", "spare") if waits(store, name)} == waiting
