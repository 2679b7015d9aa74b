"""What a program gets where the slice's files are not whole: no memory, and no crash."""

from ctypes import byref, c_size_t, c_uint64
from pathlib import Path

from tests.native.driver import OPERATING_SYSTEM, SUCCESS, Driver
from tests.native.rows import ALLOCATORS, LAUNCHES, UNIT, granted
from tests.native.slices import LIMIT


def refuses_everything(d: Driver) -> None:
    """Every way to memory says so, and the rest goes on."""
    for symbol, make in ALLOCATORS.items():
        code, _ = make(d, d.found(symbol), UNIT)
        assert code == OPERATING_SYSTEM, f"{symbol}: {code}"
        assert d.used() == 0, symbol
    for launch, symbol in ((launch, symbol) for symbol, launch in LAUNCHES.items()):
        assert launch(d, d.found(symbol)) == SUCCESS
    free, total = c_size_t(), c_size_t()
    assert d("cuMemGetInfo_v2", byref(free), byref(total)) == SUCCESS
    assert d("cuMemFree_v2", 12345) != SUCCESS
    d.ok("cuCtxDestroy_v2", d.context)


def waits_for_limits(d: Driver) -> None:
    """Limits that come later are found, by whatever asked too early as well."""
    waiting = Path("/run/tessera/waiting")
    pool = d.new("cuDeviceGetDefaultMemPool", 0)
    for symbol in ("cuMemAlloc_v2", "cuMemAllocAsync"):
        assert d(symbol, byref(c_uint64()), UNIT, 0) == OPERATING_SYSTEM
    assert d("cuMemAllocFromPoolAsync", byref(c_uint64()), UNIT, pool, 0) == OPERATING_SYSTEM
    waiting.rename("/run/tessera/limits")
    for symbol, make in ALLOCATORS.items():
        undo = granted(make, d, d.found(symbol), LIMIT)
        d.holds(LIMIT)
        undo()
        d.holds(0)


def run(name: str, driver: Driver) -> None:
    """One of the above."""
    globals()[name](driver)
