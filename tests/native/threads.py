"""Many threads at once, with a driver that hands the same pointers and handles out again at once."""

import random
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_uint64

from tests.native.driver import OUT_OF_MEMORY, SUCCESS, Driver, Flat
from tests.native.rows import UINT8, UNIT, alloc_node, device_prop, pool_props
from tests.native.slices import LIMIT, MIB

THREADS, SECONDS, STEP = 8, 1.5, 8 * MIB
Undo = Callable[[], None]


def some_pointer(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    return d("cuMemAlloc_v2", byref(out), UNIT), lambda: d.ok("cuMemFree_v2", out.value)


def some_ordered(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    return d("cuMemAllocAsync", byref(out), UNIT, 0), lambda: d.ok("cuMemFreeAsync", out.value, 0)


def some_array(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    return d("cuArrayCreate_v2", byref(out), byref(Flat(UNIT, 0, UINT8, 1))), lambda: d.ok("cuArrayDestroy", out.value)


def some_chunk(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    at = d.new("cuMemAddressReserve", UNIT, 0, 0, 0)
    code = d("cuMemCreate", byref(out), UNIT, byref(device_prop()), 0)
    if code == SUCCESS:
        d.ok("cuMemMap", at, UNIT, 0, out.value, 0)
        d.ok("cuMemRelease", out.value)
    else:
        d.ok("cuMemAddressFree", at, UNIT)

    def undo() -> None:
        d.ok("cuMemUnmap", at, UNIT)
        d.ok("cuMemAddressFree", at, UNIT)

    return code, undo


def some_graph(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    graph = d.new("cuGraphCreate", 0)
    code = d("cuGraphAddMemAllocNode", byref(out), graph, 0, 0, byref(alloc_node(UNIT)))
    if code:
        d.ok("cuGraphDestroy", graph)
    return code, lambda: d.ok("cuGraphDestroy", graph)


def some_context(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    """Memory that goes with its context, and its pointer and handle to another thread."""
    context, code = d.new("cuCtxCreate_v2", 0, 0), d("cuMemAlloc_v2", byref(out), UNIT)
    d.ok("cuCtxDestroy_v2", context)
    return code, lambda: None


def some_pool(d: Driver, out: c_uint64) -> tuple[int, Undo]:
    """A pool that is destroyed before what came from it is freed, or after."""
    pool = d.new("cuMemPoolCreate", byref(pool_props()))
    code = d("cuMemAllocFromPoolAsync", byref(out), UNIT, pool, 0)
    if code or out.value & 1 << 38:
        d.ok("cuMemPoolDestroy", pool)
        return code, lambda: d.ok("cuMemFreeAsync", out.value, 0)

    def undo() -> None:
        d.ok("cuMemFreeAsync", out.value, 0)
        d.ok("cuMemPoolDestroy", pool)

    return code, undo


KINDS = (some_pointer, some_ordered, some_array, some_chunk, some_graph, some_context, some_pool)


def work(d: Driver, seed: int, until: float, most: int, failures: list[str]) -> None:
    """Takes and gives back at random, and never sees more than the limit."""
    choice, held = random.Random(seed), list[Undo]()
    try:
        d.ok("cuCtxSetCurrent", d.context)
        while time.monotonic() < until:
            if held and choice.random() < 0.5:
                held.pop(choice.randrange(len(held)))()
                continue
            code, undo = choice.choice(KINDS)(d, c_uint64())
            assert code in (SUCCESS, OUT_OF_MEMORY), code
            held += [undo] if code == SUCCESS else []
            assert d.used() <= most, f"{d.used()} used"
        for undo in held:
            undo()
    except AssertionError as error:
        failures.append(str(error))


def all_at_once(d: Driver, most: int = LIMIT) -> None:
    """In the end nothing is held and nothing is charged."""
    failures: list[str] = []
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=work, args=(d, seed, until, most, failures)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    d.ok("cuMemPoolTrimTo", d.new("cuDeviceGetDefaultMemPool", 0), 0)
    d.holds(0)


def all_at_once_in_steps(d: Driver) -> None:
    """The same where each thread's pool may be a step ahead for a moment."""
    all_at_once(d, LIMIT + THREADS * STEP)


def run(name: str, driver: Driver) -> None:
    """One of the above."""
    globals()[name](driver)
