"""What a node's GPUs add up to."""

from dataclasses import replace

import pytest

from tessera.model.gpus import LEVEL_NONE, Gpu, GpuNode, sliced_capacity
from tessera.model.ledger import Ledger

GIB = 1 << 30
WHOLE = Gpu("GPU-a", "H100", 79 * GIB, 80 * GIB)
MIG = Gpu("MIG-a", "H100 MIG 1g.10gb", 9 * GIB, 10 * GIB, level=LEVEL_NONE)


@pytest.mark.parametrize(
    ("gpus", "room"),
    [
        ((), (0, 0)),
        ((WHOLE,), (79 * GIB, 100)),
        ((replace(WHOLE, level=LEVEL_NONE),), (79 * GIB, 100)),
        ((replace(WHOLE, mem_bytes=0),), (0, 0)),
        ((WHOLE, MIG, replace(MIG, uuid="MIG-b")), (79 * GIB, 100)),
    ],
)
def test_slices_have_room_on_gpus_only_and_the_ledger_counts_as_the_node_shows(
    gpus: tuple[Gpu, ...], room: tuple[int, int]
) -> None:
    assert sliced_capacity(gpus) == room
    ledger = Ledger()
    ledger.upsert_node(GpuNode("node", gpus))
    assert (ledger.node_mem[0], ledger.node_core[0], ledger.node_gpus[0]) == (*room, len(gpus))
