"""What a program does with several entry points together, and what the slice is charged with at each step."""

import os
from collections.abc import Callable
from ctypes import byref, c_uint64
from itertools import permutations

from tests.native.driver import (
    INVALID_VALUE,
    LOCALITY_DOMAIN,
    OUT_OF_MEMORY,
    SUCCESS,
    AllocationProp,
    AnyNode,
    ChildNode,
    Deep,
    Driver,
    Flat,
    IpcHandle,
    NodeParams,
)
from tests.native.rows import (
    UNIT,
    alloc_node,
    chunk,
    device_prop,
    graph_with,
    launched,
    mapped,
    pool_props,
    trimmed,
    unmapped,
)
from tests.native.slices import LIMIT, MIB

THRESHOLD = 4
CHILD = 4
GLOBAL = 0
LAYERED, CUBEMAP, SPARSE, DEFERRED = 0x01, 0x04, 0x40, 0x80
STEP = 32 * MIB

Scenario = Callable[[Driver], None]
SCENARIOS: dict[str, tuple[Scenario, str]] = {}


def scenario(settings: str = "") -> Callable[[Scenario], Scenario]:
    """Adds one, with the fake driver's settings for it."""

    def add(run: Scenario) -> Scenario:
        SCENARIOS[run.__name__] = (run, settings)
        return run

    return add


# Pools.


@scenario()
def a_pool_of_another_device(d: Driver) -> None:
    """Memory is charged to the GPU where it lies, not to the one that the thread works with."""
    pool = d.new("cuDeviceGetDefaultMemPool", 1)
    address = d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0)
    d.holds(0, device=0)
    d.holds(UNIT, device=1)
    trimmed(d, pool, address)
    d.holds(0, device=1)


@scenario()
def a_pool_that_keeps_its_memory(d: Driver) -> None:
    """What a pool keeps is charged, and goes when others need it."""
    pool, keep = d.new("cuDeviceGetDefaultMemPool", 0), c_uint64(1 << 60)
    d.ok("cuMemPoolSetAttribute", pool, THRESHOLD, byref(keep))
    address = d.new("cuMemAllocAsync", LIMIT, 0)
    d.ok("cuMemFreeAsync", address, 0)
    d.ok("cuStreamSynchronize", 0)
    d.holds(LIMIT)
    address = d.new("cuMemAlloc_v2", LIMIT)
    d.holds(LIMIT)
    d.ok("cuMemFree_v2", address)
    d.holds(0)


@scenario()
def a_pool_that_lets_go_when_somebody_waits(d: Driver) -> None:
    """The charge stays until the slice looks at the pool again."""
    for look_again in ("cuMemAllocAsync", "cuMemPoolTrimTo"):
        address = d.new("cuMemAllocAsync", UNIT, 0)
        d.ok("cuMemFreeAsync", address, 0)
        d.ok("cuStreamSynchronize", 0)
        assert d.used() == 0 and d.ledger.held() == UNIT
        if look_again == "cuMemAllocAsync":
            trimmed(d, d.new("cuDeviceGetMemPool", 0), d.new(look_again, UNIT // 2, 0))
        else:
            d.ok(look_again, d.new("cuDeviceGetMemPool", 0), 0)
        d.holds(0)


@scenario(f"poolstep={STEP}")
def pools_that_grow_in_steps(d: Driver) -> None:
    """A pool is charged with what the driver took for it; what there is no room for is let go at once."""
    pools = [d.new("cuMemPoolCreate", byref(pool_props())) for _ in range(2)]
    held = [d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0) for pool in (pools[0], pools[0], pools[1])]
    d.holds(2 * STEP)
    assert d("cuMemAlloc_v2", byref(c_uint64()), UNIT) == OUT_OF_MEMORY
    d.holds(2 * STEP)
    for address, pool in zip(held, (pools[0], pools[0], pools[1]), strict=True):
        trimmed(d, pool, address)
    d.holds(0)
    plain = d.new("cuMemAlloc_v2", LIMIT - STEP + UNIT)
    assert d("cuMemAllocFromPoolAsync", byref(c_uint64()), UNIT, pools[0], 0) == OUT_OF_MEMORY
    d.holds(LIMIT - STEP + UNIT)
    d.ok("cuMemFree_v2", plain)
    for pool in pools:
        d.ok("cuMemPoolDestroy", pool)
    d.holds(0)


@scenario()
def a_pool_in_place_of_the_default_one(d: Driver) -> None:
    """cuMemAllocAsync takes from the pool that the program chose for the device."""
    pool = d.new("cuMemPoolCreate", byref(pool_props()))
    d.ok("cuDeviceSetMemPool", 0, pool)
    address = d.new("cuMemAllocAsync", UNIT, 0)
    d.ok("cuMemPoolDestroy", pool)
    d.holds(UNIT)
    d.ok("cuMemFreeAsync", address, 0)
    d.holds(0)
    trimmed(d, d.new("cuDeviceGetDefaultMemPool", 0), d.new("cuMemAllocAsync", UNIT, 0))
    d.holds(0)


@scenario("pitch=1024")
def a_pitch_that_is_wider_than_expected(d: Driver) -> None:
    """The charge follows the driver's pitch; without room for that the memory goes back."""
    pitch, address = c_uint64(), c_uint64()
    for symbol in ("cuMemAllocPitch", "cuMemAllocPitch_v2"):
        d.ok(symbol, byref(address), byref(pitch), 100, 16, 4)
        d.holds(16 * 1024)
        d.ok("cuMemFree_v2", address.value)
        assert d(symbol, byref(address), byref(pitch), 512, LIMIT // 512, 4) == OUT_OF_MEMORY
        d.holds(0)


# Places.


@scenario()
def a_part_of_a_device(d: Driver) -> None:
    """A locality domain is the device's memory: physical, in a pool, and in a graph."""
    handle = d.new("cuMemCreate", UNIT, byref(device_prop(LOCALITY_DOMAIN, 1)), 0)
    d.holds(UNIT, device=1)
    d.ok("cuMemRelease", handle)
    pool = d.new("cuMemPoolCreate", byref(pool_props(LOCALITY_DOMAIN, 1)))
    address = d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0)
    d.holds(UNIT, device=1)
    d.ok("cuMemFreeAsync", address, 0)
    d.ok("cuMemPoolDestroy", pool)
    node, graph = alloc_node(UNIT, 1), d.new("cuGraphCreate", 0)
    node.pool.location.type = LOCALITY_DOMAIN
    d.new("cuGraphAddMemAllocNode", graph, 0, 0, byref(node))
    d.charged(UNIT, device=1)
    d.ok("cuGraphDestroy", graph)
    d.holds(0, device=1)


@scenario()
def another_device(d: Driver) -> None:
    """Each GPU has its own limit and its own charge."""
    context = d.new("cuCtxCreate_v2", 0, 1)
    d.new("cuMemAlloc_v2", LIMIT)
    assert d("cuMemAlloc_v2", byref(c_uint64()), 1) == OUT_OF_MEMORY
    d.ok("cuCtxPopCurrent_v2", byref(c_uint64()))
    address = d.new("cuMemAlloc_v2", UNIT)
    d.holds(UNIT, device=0)
    d.holds(LIMIT, device=1)
    d.ok("cuCtxDestroy_v2", context)
    d.holds(0, device=1)
    d.holds(UNIT, device=0)
    d.ok("cuMemFree_v2", address)


# Physical memory.


@scenario()
def handles_and_mappings_go_in_every_order(d: Driver) -> None:
    """Memory is charged until the last of them."""
    for order in sorted(set(permutations("rrmm"))):
        handle = chunk(d)
        places = [mapped(d, handle), mapped(d, handle)]
        assert d.new("cuMemRetainAllocationHandle", places[0]) == handle
        for step in order:
            d.holds(UNIT)
            if step == "r":
                d.ok("cuMemRelease", handle)
            else:
                unmapped(d, places.pop())
        d.holds(0)


@scenario()
def several_mappings_go_at_once(d: Driver) -> None:
    """One call unmaps all that lies in a range."""
    at, handles = d.new("cuMemAddressReserve", 3 * UNIT, 0, 0, 0), [chunk(d) for _ in range(3)]
    for number, handle in enumerate(handles):
        d.ok("cuMemMap", at + number * UNIT, UNIT, 0, handle, 0)
        d.ok("cuMemRelease", handle)
    d.holds(3 * UNIT)
    d.ok("cuMemUnmap", at, UNIT)
    d.holds(2 * UNIT)
    d.ok("cuMemUnmap", at + UNIT, 2 * UNIT)
    d.holds(0)


@scenario()
def a_mapping_in_place_of_another(d: Driver) -> None:
    """It fails, and the other stays what it was."""
    first, second = chunk(d), chunk(d)
    at = mapped(d, first)
    assert d("cuMemMap", at, UNIT, 0, second, 0) != SUCCESS
    d.ok("cuMemRelease", second)
    d.ok("cuMemRelease", first)
    d.holds(UNIT)
    unmapped(d, at)
    d.holds(0)


@scenario()
def an_import_mapped_before_own_memory(d: Driver) -> None:
    """One call unmaps both, and what is charged of them goes."""
    handle, own, shared = chunk(d), chunk(d), c_uint64()
    d.ok("cuMemExportToShareableHandle", byref(shared), handle, 1, 0)
    imported, at = (
        d.new("cuMemImportFromShareableHandle", shared.value, 1),
        d.new("cuMemAddressReserve", 2 * UNIT, 0, 0, 0),
    )
    d.ok("cuMemMap", at, UNIT, 0, imported, 0)
    d.ok("cuMemMap", at + UNIT, UNIT, 0, own, 0)
    d.ok("cuMemRelease", own)
    d.ok("cuMemRelease", imported)
    d.holds(2 * UNIT)
    d.ok("cuMemUnmap", at, 2 * UNIT)
    d.holds(UNIT)
    d.ok("cuMemRelease", handle)
    d.holds(0)


@scenario()
def a_mapping_alone_gives_a_handle_again(d: Driver) -> None:
    """After the last handle has gone and its number is another's."""
    first = chunk(d)
    at = mapped(d, first)
    d.ok("cuMemRelease", first)
    second = chunk(d)
    again = d.new("cuMemRetainAllocationHandle", at)
    d.ok("cuMemRelease", second)
    d.holds(UNIT)
    unmapped(d, at)
    d.holds(UNIT)
    d.ok("cuMemRelease", again)
    d.holds(0)


# What others share.


@scenario()
def imported_memory(d: Driver) -> None:
    """A view of memory that is charged already costs nothing."""
    handle, shared = chunk(d), c_uint64()
    d.ok("cuMemExportToShareableHandle", byref(shared), handle, 1, 0)
    imported = d.new("cuMemImportFromShareableHandle", shared.value, 1)
    at = mapped(d, imported)
    d.holds(UNIT)
    d.ok("cuMemRelease", imported)
    d.holds(UNIT)
    unmapped(d, at)
    d.holds(UNIT)
    d.ok("cuMemRelease", handle)
    d.holds(0)


@scenario()
def ipc_handles(d: Driver) -> None:
    """The same for cuMemAlloc's memory."""
    address, handle = d.new("cuMemAlloc_v2", UNIT), IpcHandle()
    d.ok("cuIpcGetMemHandle", byref(handle), address)
    for symbol in ("cuIpcOpenMemHandle", "cuIpcOpenMemHandle_v2"):
        opened = d.lib[symbol]
        view = c_uint64()
        assert opened(byref(view), handle, 1) == SUCCESS
        d.holds(UNIT)
        assert d("cuMemFree_v2", view.value) == INVALID_VALUE
        d.ok("cuIpcCloseMemHandle", view.value)
        d.holds(UNIT)
    d.ok("cuMemFree_v2", address)
    d.holds(0)


@scenario()
def host_memory(d: Driver) -> None:
    """Costs nothing."""
    memory = d.new("cuMemHostAlloc", UNIT, 0), d.new("cuMemAllocHost_v2", UNIT)
    handle = d.new("cuMemCreate", 2 * LIMIT, byref(AllocationProp(type=1, location=device_prop(2).location)), 0)
    d.holds(0)
    d.ok("cuMemRelease", handle)
    for address in memory:
        d.ok("cuMemFreeHost", address)


# Graphs.


def child(graph: int, *, moved: bool) -> NodeParams:
    """A graph as a node."""
    return NodeParams(type=CHILD, of=AnyNode(child=ChildNode(graph, int(moved))))


@scenario()
def a_graph_that_becomes_part_of_another(d: Driver) -> None:
    """Its charge goes with the other, and what is made of both keeps both."""
    for first in ("graph", "program"):
        inner, outer = graph_with(d, UNIT), graph_with(d, UNIT)
        d.new("cuGraphAddNode_v2", outer, 0, 0, 0, byref(child(inner, moved=True)))
        d.charged(2 * UNIT)
        program = launched(d, outer)
        d.holds(2 * UNIT)
        for what in (first, "program" if first == "graph" else "graph"):
            d.ok(*(("cuGraphDestroy", outer) if what == "graph" else ("cuGraphExecDestroy", program)))
            d.holds(2 * UNIT)
        d.ok("cuDeviceGraphMemTrim", 0)
        d.holds(0)


def captured(d: Driver, work: Callable[[int], None]) -> int:
    """The graph of what is done on a stream."""
    stream = d.new("cuStreamCreate", 0)
    d.ok("cuStreamBeginCapture_v2", stream, GLOBAL)
    work(stream)
    out = c_uint64()
    d.ok("cuStreamEndCapture", stream, byref(out))
    return out.value


@scenario()
def a_capture_that_uses_memory_again(d: Driver) -> None:
    """It is charged with the most that it holds at once, until neither graph nor program is left."""

    def work(stream: int) -> None:
        first = d.new("cuMemAllocAsync", 2 * UNIT, stream)
        d.ok("cuMemFreeAsync", first, stream)
        for _ in range(3):
            d.ok("cuMemFreeAsync", d.new("cuMemAllocAsync", UNIT, stream), stream)
        d.charged(2 * UNIT)

    graph = captured(d, work)
    program = launched(d, graph)
    d.holds(2 * UNIT)
    d.ok("cuGraphDestroy", graph)
    d.holds(2 * UNIT)
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuDeviceGraphMemTrim", 0)
    d.holds(0)


@scenario()
def a_capture_with_no_room(d: Driver) -> None:
    """What is over the limit is refused, the rest of the capture goes on, and nothing stays charged."""
    pool = d.new("cuDeviceGetMemPool", 0)
    plain = d.new("cuMemAllocAsync", UNIT, 0)

    def work(stream: int) -> None:
        assert d("cuMemAllocAsync", byref(c_uint64()), LIMIT, stream) == OUT_OF_MEMORY
        d.new("cuMemAllocFromPoolAsync", LIMIT - UNIT, pool, stream)
        d.charged(LIMIT)

    d.ok("cuGraphDestroy", captured(d, work))
    d.holds(UNIT)
    trimmed(d, pool, plain)
    d.holds(0)


@scenario()
def captures_while_others_allocate(d: Driver) -> None:
    """The shim's own questions to the driver end no capture, on its stream or on others."""
    pool, plain = d.new("cuDeviceGetMemPool", 0), []

    def work(stream: int) -> None:
        plain.append(d.new("cuMemAllocAsync", UNIT, 0))
        d.new("cuMemAllocAsync", UNIT, stream)

    graph = captured(d, work)
    d.ok("cuGraphDestroy", graph)
    trimmed(d, pool, plain[0])
    d.holds(0)


@scenario()
def a_graph_that_cannot_be_copied(d: Driver) -> None:
    """A child that allocates and is not given away is refused, and stays what it was."""
    inner, outer = graph_with(d, UNIT), d.new("cuGraphCreate", 0)
    assert d("cuGraphAddNode_v2", byref(c_uint64()), outer, 0, 0, 0, byref(child(inner, moved=False))) != SUCCESS
    d.ok("cuGraphDestroy", outer)
    d.charged(UNIT)
    d.ok("cuGraphDestroy", inner)
    d.holds(0)


@scenario()
def a_graph_on_another_device(d: Driver) -> None:
    """A node's memory is the device's that the node names."""
    graph = d.new("cuGraphCreate", 0)
    d.new("cuGraphAddMemAllocNode", graph, 0, 0, byref(alloc_node(UNIT, 1)))
    d.charged(UNIT, device=1)
    program = launched(d, graph)
    d.holds(UNIT, device=1)
    d.holds(0, device=0)
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuGraphDestroy", graph)
    d.ok("cuDeviceGraphMemTrim", 1)
    d.holds(0, device=1)


@scenario()
def graphs_keep_what_others_need(d: Driver) -> None:
    """What is left of graphs is let go when there is no room."""
    graph = graph_with(d, LIMIT)
    program = launched(d, graph)
    assert d("cuMemAlloc_v2", byref(c_uint64()), UNIT) == OUT_OF_MEMORY
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuGraphDestroy", graph)
    d.holds(LIMIT)
    address = d.new("cuMemAlloc_v2", UNIT)
    d.holds(UNIT)
    d.ok("cuMemFree_v2", address)
    d.holds(0)


# Arrays.

CHANNELS = {0x01, 0x02, 0x03, 0x08, 0x09, 0x0A, 0x10, 0x20}
FORMATS = [*sorted(CHANNELS), *range(0x50, 0x5F), *range(0x91, 0xA0), *range(0xA1, 0xAA), *range(0xB0, 0xB6)]
FORMATS += range(0xC0, 0xCC)
SHAPES = [
    (Deep(256, 0, 0), 1),
    (Deep(256, 64, 0), 1),
    (Deep(64, 32, 16), 1),
    (Deep(64, 0, 16, flags=LAYERED), 1),
    (Deep(64, 64, 6, flags=CUBEMAP), 1),
    (Deep(64, 64, 16, flags=SPARSE), 1),
    (Deep(64, 64, 16, flags=DEFERRED), 1),
    (Deep(128, 32, 16), 8),
    (Deep(128, 32, 16, flags=LAYERED), 5),
]


def arrays_of(array_format: int, d: Driver) -> None:
    """Arrays and mipmaps of every shape in one format."""
    for shape, levels in SHAPES:
        for channels in (1, 2, 4) if array_format in CHANNELS else (1,):
            shape.format, shape.channels = array_format, channels
            array = d.new("cuMipmappedArrayCreate", byref(shape), levels)
            d.holds(d.used())
            assert bool(d.used()) == (not shape.flags & (SPARSE | DEFERRED))
            d.ok("cuMipmappedArrayDestroy", array)
            if levels == 1:
                array = d.new("cuArray3DCreate_v2", byref(shape))
                d.holds(d.used())
                d.ok("cuArrayDestroy", array)
            d.holds(0)


@scenario()
def an_array_of_no_known_format(d: Driver) -> None:
    """Taken for the widest there is until the driver refuses it."""
    assert d("cuArrayCreate_v2", byref(c_uint64()), byref(Flat(UNIT, 0, 0x7F, 1))) == INVALID_VALUE
    d.holds(0)


# Processes.


@scenario()
def a_child_of_a_process_with_memory(d: Driver) -> None:
    """It cannot use the driver, takes nothing from its parent's charge, and leaves it when it ends."""
    address = d.new("cuMemAlloc_v2", UNIT)
    pool = d.new("cuDeviceGetMemPool", 0)
    ordered = d.new("cuMemAllocAsync", UNIT, 0)
    process = os.fork()
    if not process:
        refused = [d("cuMemAlloc_v2", byref(c_uint64()), UNIT), d("cuMemFree_v2", address)]
        refused += [d("cuMemFreeAsync", ordered, 0), d("cuMemPoolTrimTo", pool, 0)]
        os._exit(int(not all(refused) or d.ledger.held() != 2 * UNIT))
    assert os.waitpid(process, 0)[1] == 0
    d.holds(2 * UNIT)
    d.ok("cuMemFree_v2", address)
    trimmed(d, pool, ordered)
    d.holds(0)


def run(name: str, driver: Driver) -> None:
    """A scenario by its name, or ``format:NUMBER``."""
    kind, _, number = name.rpartition(":")
    if kind == "format":
        arrays_of(int(number, 0), driver)
    else:
        SCENARIOS[name][0](driver)
