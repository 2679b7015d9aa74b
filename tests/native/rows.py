"""A row for each entry point that the shim stands in for: what it does to the slice's charge.

A row gets the driver, the function as it was found, and its symbol. Everything else a row needs it calls by name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_size_t, c_uint, c_uint64
from functools import partial
from pathlib import Path

from tessera.node_agent.enforcement.limits_files import pace_page
from tessera.node_agent.enforcement.pacing import ALWAYS
from tests.native.driver import (
    DEVICE,
    HOST,
    INVALID_DEVICE,
    NOT_FOUND,
    OUT_OF_MEMORY,
    SUCCESS,
    AllocationProp,
    AllocNode,
    AnyNode,
    Deep,
    DeepV1,
    Driver,
    Flat,
    FlatV1,
    Function,
    InstantiateParams,
    LaunchConfig,
    LaunchParams,
    Location,
    NodeParams,
    PoolProps,
)
from tests.native.slices import LIMIT, MIB

UNIT = 2 * MIB
UINT8 = 1
ALLOC, EMPTY = 10, 5
NOT_SUPPORTED, FAILED = 801, 999
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901

Undo = Callable[[], None]
Made = tuple[int, Undo]
Make = Callable[[Driver, Function, int], Made]
Row = Callable[[Driver, Function, str], None]


def nothing() -> None:
    """What is to be undone after a call that failed."""


def _made(code: int, undo: Undo) -> Made:
    return (code, nothing) if code else (code, undo)


# What gives memory: a call for so many bytes, and how they are given back.


def pointer(free: str, d: Driver, f: Function, size: int) -> Made:
    """cuMemAlloc."""
    out = c_uint64()
    code = f(byref(out), size)
    return _made(code, lambda: d.ok(free, out.value))


def managed(d: Driver, f: Function, size: int) -> Made:
    """cuMemAllocManaged."""
    out = c_uint64()
    code = f(byref(out), size, 1)
    return _made(code, lambda: d.ok("cuMemFree_v2", out.value))


def pitched(free: str, d: Driver, f: Function, size: int) -> Made:
    """One line of cuMemAllocPitch."""
    out, pitch = c_uint64(), c_uint64()
    code = f(byref(out), byref(pitch), size, 1, 4)
    return _made(code, lambda: d.ok(free, out.value))


def trimmed(d: Driver, pool: int, address: int) -> None:
    """Frees into a pool, and makes the pool let go."""
    d.ok("cuMemFreeAsync", address, 0)
    d.ok("cuMemPoolTrimTo", pool, 0)


def ordered(d: Driver, f: Function, size: int) -> Made:
    """cuMemAllocAsync."""
    out = c_uint64()
    code = f(byref(out), size, 0)
    return _made(code, lambda: trimmed(d, d.new("cuDeviceGetMemPool", 0), out.value))


def pool_props(kind: int = DEVICE, place: int = 0) -> PoolProps:
    """A pool of a device, or another place."""
    return PoolProps(type=1, location=Location(kind, place))


def from_pool(d: Driver, f: Function, size: int) -> Made:
    """cuMemAllocFromPoolAsync, from a pool of its own."""
    out, pool = c_uint64(), d.new("cuMemPoolCreate", byref(pool_props()))

    def undo() -> None:
        d.ok("cuMemFreeAsync", out.value, 0)
        d.ok("cuMemPoolDestroy", pool)

    code = f(byref(out), size, pool, 0)
    if code:
        d.ok("cuMemPoolDestroy", pool)
    return _made(code, undo)


def flat(shape: type[Flat] | type[FlatV1], d: Driver, f: Function, size: int) -> Made:
    """An array of bytes in one line."""
    out = c_uint64()
    code = f(byref(out), byref(shape(size, 0, UINT8, 1)))
    return _made(code, lambda: d.ok("cuArrayDestroy", out.value))


def deep(shape: type[Deep] | type[DeepV1], d: Driver, f: Function, size: int) -> Made:
    """The same as an array of up to three dimensions."""
    out = c_uint64()
    code = f(byref(out), byref(shape(size, 0, 0, UINT8, 1, 0)))
    return _made(code, lambda: d.ok("cuArrayDestroy", out.value))


def mipmapped(d: Driver, f: Function, size: int) -> Made:
    """A mipmapped array of one level."""
    out = c_uint64()
    code = f(byref(out), byref(Deep(size, 0, 0, UINT8, 1, 0)), 1)
    return _made(code, lambda: d.ok("cuMipmappedArrayDestroy", out.value))


def device_prop(kind: int = DEVICE, place: int = 0) -> AllocationProp:
    """Physical memory of a device, or another place."""
    return AllocationProp(type=1, location=Location(kind, place))


def physical(d: Driver, f: Function, size: int) -> Made:
    """cuMemCreate."""
    out = c_uint64()
    code = f(byref(out), size, byref(device_prop()), 0)
    return _made(code, lambda: d.ok("cuMemRelease", out.value))


def alloc_node(size: int, device: int = 0) -> AllocNode:
    """A graph's allocation."""
    return AllocNode(pool=pool_props(place=device), bytes=size)


def node_params(size: int) -> NodeParams:
    """The same for the generic calls."""
    return NodeParams(type=ALLOC, of=AnyNode(alloc=alloc_node(size)))


def by_name(f: Function, node: c_uint64, graph: int, size: int) -> int:
    """cuGraphAddMemAllocNode."""
    return f(byref(node), graph, 0, 0, byref(alloc_node(size)))


def by_params(f: Function, node: c_uint64, graph: int, size: int) -> int:
    """cuGraphAddNode."""
    return f(byref(node), graph, 0, 0, byref(node_params(size)))


def by_params_and_edges(f: Function, node: c_uint64, graph: int, size: int) -> int:
    """cuGraphAddNode_v2 and later."""
    return f(byref(node), graph, 0, 0, 0, byref(node_params(size)))


def in_graph(add: Callable[[Function, c_uint64, int, int], int], d: Driver, f: Function, size: int) -> Made:
    """A graph with one allocation, launched, so that the driver holds what was charged when the node was added."""
    node, graph = c_uint64(), d.new("cuGraphCreate", 0)
    code = add(f, node, graph, size)
    if code:
        d.ok("cuGraphDestroy", graph)
        return code, nothing
    d.charged(d.used() + size)
    program = launched(d, graph)

    def undo() -> None:
        d.ok("cuGraphExecDestroy", program)
        d.ok("cuGraphDestroy", graph)
        d.ok("cuDeviceGraphMemTrim", 0)

    return code, undo


def launched(d: Driver, graph: int) -> int:
    """A graph, instantiated and launched."""
    program = d.new("cuGraphInstantiateWithFlags", graph, 0)
    d.ok("cuGraphLaunch", program, 0)
    return program


ALLOCATORS: dict[str, Make] = {
    "cuMemAlloc": partial(pointer, "cuMemFree"),
    "cuMemAlloc_v2": partial(pointer, "cuMemFree_v2"),
    "cuMemAllocManaged": managed,
    "cuMemAllocPitch": partial(pitched, "cuMemFree"),
    "cuMemAllocPitch_v2": partial(pitched, "cuMemFree_v2"),
    "cuMemAllocAsync": ordered,
    "cuMemAllocAsync_ptsz": ordered,
    "cuMemAllocFromPoolAsync": from_pool,
    "cuMemAllocFromPoolAsync_ptsz": from_pool,
    "cuArrayCreate": partial(flat, FlatV1),
    "cuArrayCreate_v2": partial(flat, Flat),
    "cuArray3DCreate": partial(deep, DeepV1),
    "cuArray3DCreate_v2": partial(deep, Deep),
    "cuMipmappedArrayCreate": mipmapped,
    "cuMemCreate": physical,
    "cuGraphAddMemAllocNode": partial(in_graph, by_name),
    "cuGraphAddNode": partial(in_graph, by_params),
    "cuGraphAddNode_v2": partial(in_graph, by_params_and_edges),
    "cuGraphAddNode_v3": partial(in_graph, by_params_and_edges),
}


def granted(make: Make, d: Driver, f: Function, size: int) -> Undo:
    """Makes what there is room for."""
    code, undo = make(d, f, size)
    assert code == SUCCESS, f"code {code} for {size} bytes"
    return undo


def refused(make: Make, d: Driver, f: Function, symbol: str, size: int) -> None:
    """Asks for what there is no room for: the driver does not even hear of it."""
    held, calls = d.used(), d.calls(symbol)
    code, _ = make(d, f, size)
    assert code == OUT_OF_MEMORY, f"code {code} for {size} bytes"
    assert d.calls(symbol) == calls
    d.holds(held)


def allocates(make: Make, d: Driver, f: Function, symbol: str) -> None:
    """Charged to the byte, up to the limit and not beyond, alone and beside others."""
    for size in (UNIT, LIMIT):
        undo = granted(make, d, f, size)
        d.holds(size)
        undo()
        d.holds(0)
    refused(make, d, f, symbol, LIMIT + 1)
    other = d.new("cuMemAlloc_v2", LIMIT // 2)
    refused(make, d, f, symbol, LIMIT // 2 + 1)
    undo = granted(make, d, f, LIMIT // 2)
    d.holds(LIMIT)
    undo()
    d.ok("cuMemFree_v2", other)
    d.holds(0)


def fails(make: Make, d: Driver, f: Function) -> None:
    """The driver fails the first call: nothing is charged, and the next one goes well."""
    code, _ = make(d, f, UNIT)
    assert code == FAILED, code
    d.holds(0)
    undo = granted(make, d, f, UNIT)
    d.holds(UNIT)
    undo()
    d.holds(0)


# What gives memory back.


def frees_pointer(give: str, d: Driver, f: Function, symbol: str) -> None:
    """A pointer that is freed once, and another that nobody gave out."""
    first, second = d.new(give, UNIT), d.new(give, UNIT)
    d.holds(2 * UNIT)
    assert f(first) == SUCCESS
    d.holds(UNIT)
    assert f(first) != SUCCESS
    assert f(12345) != SUCCESS
    d.holds(UNIT)
    d.ok("cuMemFree_v2", second)
    d.holds(0)


def frees_ordered(d: Driver, f: Function, symbol: str) -> None:
    """The pool keeps what is freed, and is charged with it, until it lets go."""
    pool, address = d.new("cuDeviceGetMemPool", 0), d.new("cuMemAllocAsync", UNIT, 0)
    assert f(address, 0) == SUCCESS
    assert f(address, 0) != SUCCESS
    d.holds(UNIT)
    d.ok("cuMemPoolTrimTo", pool, 0)
    d.holds(0)
    address = d.new("cuMemAlloc_v2", UNIT)
    assert f(address, 0) == SUCCESS
    d.holds(0)


def destroys_array(d: Driver, f: Function, symbol: str) -> None:
    """An array."""
    array = d.new("cuArrayCreate_v2", byref(Flat(UNIT, 0, UINT8, 1)))
    d.holds(UNIT)
    assert f(array) == SUCCESS
    d.holds(0)
    assert f(array) != SUCCESS
    d.holds(0)


def destroys_mipmap(d: Driver, f: Function, symbol: str) -> None:
    """A mipmapped array of all its levels."""
    array = d.new("cuMipmappedArrayCreate", byref(Deep(1024, 512, 0, UINT8, 4, 0)), 3)
    d.holds(4 * (1024 * 512 + 512 * 256 + 256 * 128))
    assert f(array) == SUCCESS
    d.holds(0)
    assert f(array) != SUCCESS
    d.holds(0)


def chunk(d: Driver) -> int:
    """Physical memory."""
    return d.new("cuMemCreate", UNIT, byref(device_prop()), 0)


def mapped(d: Driver, handle: int) -> int:
    """An address where it is mapped."""
    at = d.new("cuMemAddressReserve", UNIT, 0, 0, 0)
    d.ok("cuMemMap", at, UNIT, 0, handle, 0)
    return at


def unmapped(d: Driver, at: int) -> None:
    """The end of that."""
    d.ok("cuMemUnmap", at, UNIT)
    d.ok("cuMemAddressFree", at, UNIT)


def releases(d: Driver, f: Function, symbol: str) -> None:
    """Memory that is mapped stays when its handle goes."""
    handle = chunk(d)
    at = mapped(d, handle)
    assert f(handle) == SUCCESS
    d.holds(UNIT)
    assert f(handle) != SUCCESS
    unmapped(d, at)
    d.holds(0)
    assert f(chunk(d)) == SUCCESS
    d.holds(0)


def retains(d: Driver, f: Function, symbol: str) -> None:
    """Another handle of mapped memory, by any address in it."""
    out, handle = c_uint64(), chunk(d)
    at = mapped(d, handle)
    assert f(byref(out), at + UNIT - 1) == SUCCESS
    assert f(byref(out), at + UNIT) != SUCCESS
    unmapped(d, at)
    d.ok("cuMemRelease", handle)
    d.holds(UNIT)
    d.ok("cuMemRelease", out.value)
    d.holds(0)


def maps(d: Driver, f: Function, symbol: str) -> None:
    """A mapping costs nothing and keeps the memory; one that fails does not."""
    handle, at = chunk(d), d.new("cuMemAddressReserve", UNIT, 0, 0, 0)
    assert f(at + UNIT, UNIT, 0, handle, 0) != SUCCESS
    assert f(at, UNIT, 0, handle, 0) == SUCCESS
    d.holds(UNIT)
    d.ok("cuMemRelease", handle)
    d.holds(UNIT)
    unmapped(d, at)
    d.holds(0)


def unmaps(d: Driver, f: Function, symbol: str) -> None:
    """The last mapping ends what has no handle; a part of it cannot be unmapped."""
    handle = chunk(d)
    at = mapped(d, handle)
    d.ok("cuMemRelease", handle)
    assert f(at, UNIT // 2) != SUCCESS
    d.holds(UNIT)
    assert f(at, UNIT) == SUCCESS
    d.holds(0)
    d.ok("cuMemAddressFree", at, UNIT)


# Pools.


def creates_pool(d: Driver, f: Function, symbol: str) -> None:
    """A pool costs what is allocated from it, if its memory is the device's."""
    for properties, size in ((pool_props(), UNIT), (pool_props(HOST), 0)):
        pool = c_uint64()
        assert f(byref(pool), byref(properties)) == SUCCESS
        d.holds(0)
        address = d.new("cuMemAllocFromPoolAsync", UNIT, pool.value, 0)
        d.holds(size)
        d.ok("cuMemFreeAsync", address, 0)
        d.ok("cuMemPoolDestroy", pool.value)
        d.holds(0)


def destroys_pool(d: Driver, f: Function, symbol: str) -> None:
    """A pool's memory goes when the last allocation from it has gone."""
    pool = d.new("cuMemPoolCreate", byref(pool_props()))
    addresses = [d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0) for _ in range(3)]
    d.ok("cuMemFreeAsync", addresses.pop(), 0)
    d.holds(3 * UNIT)
    assert f(pool) == SUCCESS
    d.holds(3 * UNIT)
    d.ok("cuMemFreeAsync", addresses.pop(), 0)
    d.holds(3 * UNIT)
    d.ok("cuMemFree_v2", addresses.pop())
    d.holds(0)
    assert f(d.new("cuDeviceGetDefaultMemPool", 0)) != SUCCESS


def trims_pool(d: Driver, f: Function, symbol: str) -> None:
    """A pool lets go of what is not in use, down to what it is told to keep."""
    pool = d.new("cuMemPoolCreate", byref(pool_props()))
    addresses = [d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0) for _ in range(4)]
    for address in addresses[1:]:
        d.ok("cuMemFreeAsync", address, 0)
    d.holds(4 * UNIT)
    for keep, left in ((3 * UNIT, 3 * UNIT), (0, UNIT)):
        assert f(pool, keep) == SUCCESS
        d.holds(left)
    d.ok("cuMemFreeAsync", addresses[0], 0)
    d.ok("cuMemPoolDestroy", pool)
    d.holds(0)


def imports_pool(d: Driver, f: Function, symbol: str) -> None:
    """Another process's pool and what is in it cost nothing here."""
    pool, shared, imported = d.new("cuMemPoolCreate", byref(pool_props())), c_uint64(), c_uint64()
    address, data = d.new("cuMemAllocFromPoolAsync", UNIT, pool, 0), (c_uint64 * 8)()
    d.ok("cuMemPoolExportToShareableHandle", byref(shared), pool, 1, 0)
    d.ok("cuMemPoolExportPointer", data, address)
    assert f(byref(imported), shared.value, 1, 0) == SUCCESS
    view = d.new("cuMemPoolImportPointer", imported.value, data)
    d.holds(UNIT)
    d.ok("cuMemFree_v2", view)
    d.holds(UNIT)
    d.ok("cuMemPoolDestroy", imported.value)
    d.ok("cuMemFreeAsync", address, 0)
    d.ok("cuMemPoolDestroy", pool)
    d.holds(0)


# Graphs.


def graph_with(d: Driver, size: int) -> int:
    """A graph with one allocation."""
    graph = d.new("cuGraphCreate", 0)
    d.new("cuGraphAddMemAllocNode", graph, 0, 0, byref(alloc_node(size)))
    return graph


def keeps_nodes_that_allocate(d: Driver, f: Function, symbol: str) -> None:
    """The driver does not take such nodes out, so their charge stays; others cost nothing."""
    out, graph, plain = c_uint64(), d.new("cuGraphCreate", 0), d.new("cuGraphCreate", 0)
    d.ok("cuGraphAddMemAllocNode", byref(out), graph, 0, 0, byref(alloc_node(UNIT)))
    assert f(out.value) == NOT_SUPPORTED
    d.charged(UNIT)
    assert f(d.new("cuGraphAddEmptyNode", plain, 0, 0)) == SUCCESS
    d.ok("cuGraphDestroy", plain)
    d.charged(UNIT)
    d.ok("cuGraphDestroy", graph)
    d.holds(0)


def destroys_graph(d: Driver, f: Function, symbol: str) -> None:
    """What a graph allocates is charged until neither it nor what was made of it is left."""
    graph = graph_with(d, UNIT)
    d.charged(UNIT)
    assert f(graph) == SUCCESS
    d.holds(0)
    graph = graph_with(d, UNIT)
    program = launched(d, graph)
    assert f(graph) == SUCCESS
    assert f(graph) != SUCCESS
    d.holds(UNIT)
    d.ok("cuGraphExecDestroy", program)
    d.holds(UNIT)
    d.ok("cuDeviceGraphMemTrim", 0)
    d.holds(0)


def plainly(f: Function, program: c_uint64, graph: int) -> int:
    """cuGraphInstantiate of old."""
    return f(byref(program), graph, 0, 0, 0)


def with_flags(f: Function, program: c_uint64, graph: int) -> int:
    """cuGraphInstantiateWithFlags."""
    return f(byref(program), graph, 0)


def with_params(f: Function, program: c_uint64, graph: int) -> int:
    """cuGraphInstantiateWithParams."""
    return f(byref(program), graph, byref(InstantiateParams()))


def instantiates(by: Callable[[Function, c_uint64, int], int], d: Driver, f: Function, symbol: str) -> None:
    """What was made of a graph keeps its charge after the graph."""
    program, graph = c_uint64(), graph_with(d, UNIT)
    assert by(f, program, graph) == SUCCESS
    d.charged(UNIT)
    d.ok("cuGraphDestroy", graph)
    d.charged(UNIT)
    d.ok("cuGraphLaunch", program.value, 0)
    d.holds(UNIT)
    d.ok("cuGraphExecDestroy", program.value)
    d.ok("cuDeviceGraphMemTrim", 0)
    d.holds(0)


def begins_capture(d: Driver, f: Function, symbol: str) -> None:
    """What is allocated meanwhile is charged to the graph, and to nobody when the capture fails."""
    stream = d.new("cuStreamCreate", 0)
    assert f(stream, 0) == SUCCESS
    d.new("cuMemAllocAsync", UNIT, stream)
    d.charged(UNIT)
    assert d("cuMemAlloc_v2", byref(c_uint64()), UNIT) == CAPTURE_UNSUPPORTED
    assert d("cuStreamEndCapture", stream, byref(c_uint64())) == CAPTURE_INVALIDATED
    d.holds(0)


def ends_capture(d: Driver, f: Function, symbol: str) -> None:
    """The graph has what was charged, and ends with it."""
    graph, stream = c_uint64(), d.new("cuStreamCreate", 0)
    d.ok("cuStreamBeginCapture_v2", stream, 0)
    d.new("cuMemAllocAsync", UNIT, stream)
    assert f(stream, byref(graph)) == SUCCESS
    assert f(stream, byref(c_uint64())) != SUCCESS
    program = launched(d, graph.value)
    d.holds(UNIT)
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuGraphDestroy", graph.value)
    d.ok("cuDeviceGraphMemTrim", 0)
    d.holds(0)


def destroys_program(d: Driver, f: Function, symbol: str) -> None:
    """A program that never ran leaves nothing; one that did leaves what the device keeps."""
    for runs, kept in ((False, 0), (True, UNIT)):
        graph = graph_with(d, UNIT)
        program = d.new("cuGraphInstantiateWithFlags", graph, 0)
        if runs:
            d.ok("cuGraphLaunch", program, 0)
        assert f(program) == SUCCESS
        assert f(program) != SUCCESS
        d.charged(UNIT)
        d.ok("cuGraphDestroy", graph)
        d.holds(kept)
        d.ok("cuDeviceGraphMemTrim", 0)
        d.holds(0)


def trims_graphs(d: Driver, f: Function, symbol: str) -> None:
    """What programs use cannot be let go."""
    graph = graph_with(d, UNIT)
    program = launched(d, graph)
    assert f(0) == SUCCESS
    d.holds(UNIT)
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuGraphDestroy", graph)
    d.holds(UNIT)
    assert f(0) == SUCCESS
    d.holds(0)


def launches_graph(d: Driver, f: Function, symbol: str) -> None:
    """The driver's memory for a graph comes with its launch, and the launch is paid for."""
    graph = graph_with(d, UNIT)
    program = d.new("cuGraphInstantiateWithFlags", graph, 0)
    takes_turn(lambda d, f: f(program, 0), d, f, symbol)
    d.holds(UNIT)
    d.ok("cuGraphExecDestroy", program)
    d.ok("cuGraphDestroy", graph)
    d.ok("cuDeviceGraphMemTrim", 0)
    d.holds(0)


# Contexts.


def fill(d: Driver) -> None:
    """One of everything that goes with a context."""
    d.new("cuMemAlloc_v2", UNIT)
    d.new("cuMemAlloc", UNIT)
    d.new("cuMemAllocManaged", UNIT, 1)
    d.ok("cuMemAllocPitch_v2", byref(c_uint64()), byref(c_size_t()), UNIT, 1, 4)
    d.new("cuArrayCreate_v2", byref(Flat(UNIT, 0, UINT8, 1)))
    d.new("cuMipmappedArrayCreate", byref(Deep(UNIT, 0, 0, UINT8, 1, 0)), 1)


FILLED = 6 * UNIT


def destroys_context(d: Driver, f: Function, symbol: str) -> None:
    """What is the device's outlives a context; another context's memory does too."""
    mine, context = d.new("cuMemAlloc_v2", UNIT), d.new("cuCtxCreate_v2", 0, 0)
    fill(d)
    handle, address = chunk(d), d.new("cuMemAllocAsync", UNIT, 0)
    d.holds(FILLED + 3 * UNIT)
    assert f(context) == SUCCESS
    d.holds(3 * UNIT)
    assert f(context) != SUCCESS
    d.holds(3 * UNIT)
    d.ok("cuMemFree_v2", mine)
    d.ok("cuMemRelease", handle)
    trimmed(d, d.new("cuDeviceGetMemPool", 0), address)
    d.holds(0)


def detaches(d: Driver, f: Function, symbol: str) -> None:
    """A context that is used twice goes the second time."""
    context = d.new("cuCtxCreate_v2", 0, 0)
    d.new("cuCtxAttach", 0)
    fill(d)
    assert f(context) == SUCCESS
    d.holds(FILLED)
    assert f(context) == SUCCESS
    d.holds(0)


def in_primary(d: Driver) -> None:
    """Fills the primary context."""
    d.ok("cuCtxPushCurrent_v2", d.new("cuDevicePrimaryCtxRetain", 0))
    fill(d)
    d.ok("cuCtxPopCurrent_v2", byref(c_uint64()))
    d.holds(FILLED)


def releases_primary(d: Driver, f: Function, symbol: str) -> None:
    """The primary context goes with its last user."""
    in_primary(d)
    d.new("cuDevicePrimaryCtxRetain", 0)
    assert f(0) == SUCCESS
    d.holds(FILLED)
    assert f(0) == SUCCESS
    d.holds(0)
    assert f(0) != SUCCESS


def resets_primary(d: Driver, f: Function, symbol: str) -> None:
    """The primary context goes, whoever uses it."""
    in_primary(d)
    d.new("cuDevicePrimaryCtxRetain", 0)
    assert f(0) == SUCCESS
    d.holds(0)
    assert f(0) == SUCCESS
    d.holds(0)


# What a context takes itself.


@contextmanager
def contexts_of(size: int) -> Iterator[None]:
    """While it lasts, the slice is charged with that much for each."""
    page = Path("/run/tessera/pace")
    page.write_bytes(pace_page({0: ALWAYS}, size))
    try:
        yield
    finally:
        page.write_bytes(pace_page({0: ALWAYS}))


def makes_context(arguments: Sequence[object], d: Driver, f: Function, symbol: str) -> None:
    """Charged from its making to its end; where the slice has no room for it, it is not made."""
    context = c_uint64()
    with contexts_of(UNIT):
        assert f(byref(context), *arguments, 0) == SUCCESS
        d.charged(UNIT)
        d.ok("cuCtxDestroy_v2", context.value)
        d.charged(0)
        filler = d.new("cuMemAlloc_v2", LIMIT - UNIT + 1)
        assert f(byref(context), *arguments, 0) == OUT_OF_MEMORY
        assert f(byref(context), *arguments, 7) == INVALID_DEVICE
        d.ok("cuMemFree_v2", filler)
    d.holds(0)


def retains_primary(d: Driver, f: Function, symbol: str) -> None:
    """Charged once, whoever uses it, until its last user has released it."""
    context = c_uint64()
    with contexts_of(UNIT):
        for _ in range(2):
            assert f(byref(context), 0) == SUCCESS
            d.charged(UNIT)
        d.ok("cuDevicePrimaryCtxRelease_v2", 0)
        d.charged(UNIT)
        d.ok("cuDevicePrimaryCtxReset_v2", 0)
        d.charged(0)
        filler = d.new("cuMemAlloc_v2", LIMIT - UNIT + 1)
        assert f(byref(context), 0) == OUT_OF_MEMORY
        d.ok("cuMemFree_v2", filler)
    d.holds(0)


def makes_green(d: Driver, f: Function, symbol: str) -> None:
    """The primary context is made for the first one, and stays as long as anybody uses it."""
    green = c_uint64()
    with contexts_of(UNIT):
        assert f(byref(green), 0, 0, 0) == SUCCESS
        d.charged(UNIT)
        d.new("cuDevicePrimaryCtxRetain", 0)
        d.charged(UNIT)
        d.ok("cuGreenCtxDestroy", green.value)
        d.charged(UNIT)
        d.ok("cuDevicePrimaryCtxRelease_v2", 0)
        d.charged(0)
        filler = d.new("cuMemAlloc_v2", LIMIT - UNIT + 1)
        assert f(byref(green), 0, 0, 0) == OUT_OF_MEMORY
        assert f(byref(green), 0, 7, 0) == INVALID_DEVICE
        d.ok("cuMemFree_v2", filler)
    d.holds(0)


def destroys_green(d: Driver, f: Function, symbol: str) -> None:
    """With the last user goes what was allocated in the primary context."""
    green = d.new("cuGreenCtxCreate", 0, 0, 0)
    in_primary(d)
    d.ok("cuDevicePrimaryCtxRelease_v2", 0)
    d.holds(FILLED)
    assert f(green) == SUCCESS
    d.holds(0)
    assert f(green) != SUCCESS
    d.holds(0)


# What is told of the GPU.


def tells_memory(number: type[c_uint] | type[c_size_t], d: Driver, f: Function, symbol: str) -> None:
    """The slice's bytes, and those that are left of it."""
    free, total = number(), number()
    for held in (0, UNIT):
        address = d.new("cuMemAlloc_v2", held) if held else 0
        assert f(byref(free), byref(total)) == SUCCESS
        assert (free.value, total.value) == (LIMIT - held, LIMIT)
        d.ok("cuMemFree_v2", address)


def tells_total(number: type[c_uint] | type[c_size_t], d: Driver, f: Function, symbol: str) -> None:
    """The slice's bytes."""
    total = number()
    assert f(byref(total), 0) == SUCCESS
    assert total.value == LIMIT


def answers(d: Driver, f: Function, symbol: str) -> None:
    """What cuGetProcAddress answers charges too; what it does not know is not there."""
    out, address = c_uint64(), c_uint64()
    rest = [byref(c_uint())] if symbol.endswith("_v2") else []
    assert f(b"cuMemAlloc", byref(out), 12000, 0, *rest) == SUCCESS
    assert out.value == d.default("cuMemAlloc_v2")
    code = f(b"cuNoSuchThing", byref(address), 12000, 0, *rest)
    assert code in (SUCCESS, NOT_FOUND) and not address.value
    assert f(b"cuGetProcAddress", byref(out), 12000, 0, *rest) == SUCCESS
    assert out.value == d.default("cuGetProcAddress_v2")


# Launches.


def takes_turn(launch: Callable[[Driver, Function], int], d: Driver, f: Function, symbol: str) -> None:
    """The slice has work now, and the driver's own function of that name is called."""
    calls, works = d.calls(symbol), d.ledger.works()
    assert launch(d, f) == SUCCESS
    assert d.calls(symbol) == calls + 1
    assert d.ledger.works() > works


def kernel(d: Driver, f: Function) -> int:
    """cuLaunchKernel."""
    return f(0, 2, 1, 1, 32, 1, 1, 0, 0, 0, 0)


def cooperative(d: Driver, f: Function) -> int:
    """cuLaunchCooperativeKernel."""
    return f(0, 2, 1, 1, 32, 1, 1, 0, 0, 0)


def extended(d: Driver, f: Function) -> int:
    """cuLaunchKernelEx."""
    return f(byref(LaunchConfig(grid=(2, 1, 1), block=(32, 1, 1))), 0, 0, 0)


def many(d: Driver, f: Function) -> int:
    """cuLaunchCooperativeKernelMultiDevice."""
    return f(byref(LaunchParams(grid=(2, 1, 1), block=(32, 1, 1))), 1, 0)


LAUNCHES: dict[str, Callable[[Driver, Function], int]] = {
    "cuLaunch": lambda d, f: f(0),
    "cuLaunchGrid": lambda d, f: f(0, 1, 1),
    "cuLaunchGridAsync": lambda d, f: f(0, 1, 1, 0),
    "cuLaunchKernel": kernel,
    "cuLaunchKernel_ptsz": kernel,
    "cuLaunchKernelEx": extended,
    "cuLaunchKernelEx_ptsz": extended,
    "cuLaunchCooperativeKernel": cooperative,
    "cuLaunchCooperativeKernel_ptsz": cooperative,
    "cuLaunchCooperativeKernelMultiDevice": many,
}

ROWS: dict[str, Row] = {
    **{symbol: partial(allocates, make) for symbol, make in ALLOCATORS.items()},
    **{symbol: partial(takes_turn, launch) for symbol, launch in LAUNCHES.items()},
    "cuMemFree": partial(frees_pointer, "cuMemAlloc"),
    "cuMemFree_v2": partial(frees_pointer, "cuMemAlloc_v2"),
    "cuMemFreeAsync": frees_ordered,
    "cuMemFreeAsync_ptsz": frees_ordered,
    "cuArrayDestroy": destroys_array,
    "cuMipmappedArrayDestroy": destroys_mipmap,
    "cuMemRelease": releases,
    "cuMemRetainAllocationHandle": retains,
    "cuMemMap": maps,
    "cuMemUnmap": unmaps,
    "cuMemPoolCreate": creates_pool,
    "cuMemPoolDestroy": destroys_pool,
    "cuMemPoolTrimTo": trims_pool,
    "cuMemPoolImportFromShareableHandle": imports_pool,
    "cuGraphDestroyNode": keeps_nodes_that_allocate,
    "cuGraphDestroy": destroys_graph,
    "cuGraphInstantiate": partial(instantiates, plainly),
    "cuGraphInstantiate_v2": partial(instantiates, plainly),
    "cuGraphInstantiateWithFlags": partial(instantiates, with_flags),
    "cuGraphInstantiateWithParams": partial(instantiates, with_params),
    "cuGraphInstantiateWithParams_ptsz": partial(instantiates, with_params),
    "cuGraphLaunch": launches_graph,
    "cuGraphLaunch_ptsz": launches_graph,
    **dict.fromkeys(("cuStreamBeginCapture", "cuStreamBeginCapture_ptsz"), begins_capture),
    **dict.fromkeys(("cuStreamBeginCapture_v2", "cuStreamBeginCapture_v2_ptsz"), begins_capture),
    **dict.fromkeys(("cuStreamEndCapture", "cuStreamEndCapture_ptsz"), ends_capture),
    "cuGraphExecDestroy": destroys_program,
    "cuDeviceGraphMemTrim": trims_graphs,
    **dict.fromkeys(("cuCtxCreate", "cuCtxCreate_v2"), partial(makes_context, (0,))),
    "cuCtxCreate_v3": partial(makes_context, (0, 0, 0)),
    "cuCtxCreate_v4": partial(makes_context, (0, 0)),
    "cuDevicePrimaryCtxRetain": retains_primary,
    "cuGreenCtxCreate": makes_green,
    "cuGreenCtxDestroy": destroys_green,
    "cuCtxDestroy": destroys_context,
    "cuCtxDestroy_v2": destroys_context,
    "cuCtxDetach": detaches,
    "cuDevicePrimaryCtxRelease": releases_primary,
    "cuDevicePrimaryCtxRelease_v2": releases_primary,
    "cuDevicePrimaryCtxReset": resets_primary,
    "cuDevicePrimaryCtxReset_v2": resets_primary,
    "cuMemGetInfo": partial(tells_memory, c_uint),
    "cuMemGetInfo_v2": partial(tells_memory, c_size_t),
    "cuDeviceTotalMem": partial(tells_total, c_uint),
    "cuDeviceTotalMem_v2": partial(tells_total, c_size_t),
    "cuGetProcAddress": answers,
    "cuGetProcAddress_v2": answers,
}


def run(name: str, driver: Driver) -> None:
    """A row by its symbol; ``fail:SYMBOL`` where the driver fails the first call."""
    kind, _, symbol = name.rpartition(":")
    if kind == "fail":
        fails(ALLOCATORS[symbol], driver, driver.found(symbol))
    else:
        ROWS[symbol](driver, driver.found(symbol), symbol)
