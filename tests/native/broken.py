"""What a program gets where the slice's files are not whole: no context, no memory, and no crash."""

import random
from ctypes import byref, c_size_t, c_uint64
from pathlib import Path

from tests.native.driver import OPERATING_SYSTEM, OUT_OF_MEMORY, SUCCESS, Driver
from tests.native.rows import ALLOCATORS, LAUNCHES, UNIT, contexts_of, granted
from tests.native.slices import LEDGER_SIZE, LIMIT

LIMITS, LEDGER = Path("/run/tessera/limits"), Path("/run/tessera-usage/ledger")
CONTEXTS: dict[str, tuple[int, ...]] = {
    "cuCtxCreate": (0, 0),
    "cuCtxCreate_v2": (0, 0),
    "cuCtxCreate_v3": (0, 0, 0, 0),
    "cuCtxCreate_v4": (0, 0, 0),
    "cuDevicePrimaryCtxRetain": (0,),
    "cuGreenCtxCreate": (0, 0, 0),
}
"""What makes a context, and with which arguments beside the first."""


def no_context(d: Driver) -> None:
    """Every way to one says so, and the driver does not even hear of it."""
    for symbol, arguments in CONTEXTS.items():
        calls = d.calls(symbol)
        code = d.found(symbol)(byref(c_uint64()), *arguments)
        assert code == OPERATING_SYSTEM, f"{symbol}: {code}"
        assert d.calls(symbol) == calls, symbol


def refuses_everything(d: Driver) -> None:
    """Every way to a context and to memory says so, and the rest goes on: even in a context that came past the shim."""
    d.ok("cuInit", 0)
    no_context(d)
    context = c_uint64()
    assert d.own("cuCtxCreate_v2")(byref(context), 0, 0) == SUCCESS
    for symbol, make in ALLOCATORS.items():
        code, _ = make(d, d.found(symbol), UNIT)
        assert code == OPERATING_SYSTEM, f"{symbol}: {code}"
        assert d.used() == 0, symbol
    for launch, symbol in ((launch, symbol) for symbol, launch in LAUNCHES.items()):
        assert launch(d, d.found(symbol)) == SUCCESS
    free, total = c_size_t(), c_size_t()
    assert d("cuMemGetInfo_v2", byref(free), byref(total)) == SUCCESS
    assert d("cuMemFree_v2", 12345) != SUCCESS
    d.ok("cuCtxDestroy_v2", context.value)


def keeps_what_it_has(d: Driver) -> None:
    """Limits that break while a program runs: its contexts stay, held to what was known, and it gets no new one."""
    whole = LIMITS.read_bytes()
    with contexts_of(UNIT):
        d.new("cuDevicePrimaryCtxRetain", 0)
        for broken in (None, b"", whole[: len(whole) // 2], b"nonsense"):
            LIMITS.unlink()
            if broken is not None:
                LIMITS.write_bytes(broken)
            address = d.new("cuMemAlloc_v2", LIMIT - UNIT)
            d.ok("cuMemFree_v2", address)
            d.new("cuDevicePrimaryCtxRetain", 0)
            d.ok("cuDevicePrimaryCtxRelease_v2", 0)
            for symbol in ("cuCtxCreate_v2", "cuCtxCreate_v4"):
                code = d(symbol, byref(c_uint64()), *CONTEXTS[symbol])
                assert code == OPERATING_SYSTEM, f"{symbol}: {code}"
            d.charged(UNIT)
            LIMITS.write_bytes(whole)
        d.ok("cuDevicePrimaryCtxRelease_v2", 0)
        d.ok("cuCtxDestroy_v2", d.new("cuCtxCreate_v2", 0, 0))
    d.charged(0)


def waits_for_limits(d: Driver) -> None:
    """Limits that come later are found, by whatever asked too early as well."""
    d.ok("cuInit", 0)
    no_context(d)
    assert d.own("cuCtxCreate_v2")(byref(c_uint64()), 0, 0) == SUCCESS
    pool = d.new("cuDeviceGetDefaultMemPool", 0)
    for symbol in ("cuMemAlloc_v2", "cuMemAllocAsync"):
        assert d(symbol, byref(c_uint64()), UNIT, 0) == OPERATING_SYSTEM
    assert d("cuMemAllocFromPoolAsync", byref(c_uint64()), UNIT, pool, 0) == OPERATING_SYSTEM
    LIMITS.with_name("waiting").rename(LIMITS)
    d.ok("cuCtxDestroy_v2", d.new("cuCtxCreate_v2", 0, 0))
    for symbol, make in ALLOCATORS.items():
        undo = granted(make, d, d.found(symbol), LIMIT)
        d.holds(LIMIT)
        undo()
        d.holds(0)


def never_has_more(d: Driver) -> None:
    """Whatever is said of others behind the ledger's first word: a program is refused at the slice, or before."""
    d.ok("cuInit", 0)
    d("cuCtxCreate_v2", byref(c_uint64()), 0, 0)
    _takes_until_refused(d)


def meets_noise(d: Driver) -> None:
    """Noise that comes over the whole ledger while a program runs: what it has stays, and no more is given."""
    d.ok("cuInit", 0)
    d.ok("cuCtxCreate_v2", byref(c_uint64()), 0, 0)
    address = d.new("cuMemAlloc_v2", UNIT)
    with LEDGER.open("r+b") as file:
        file.write(random.Random(3).randbytes(LEDGER_SIZE))
    assert d("cuMemAlloc_v2", byref(c_uint64()), UNIT) == OUT_OF_MEMORY
    assert d.used() == UNIT
    d.ok("cuMemFree_v2", address)
    _takes_until_refused(d)


def _takes_until_refused(d: Driver) -> None:
    answers = [d("cuMemAlloc_v2", byref(c_uint64()), UNIT) for _ in range(2 * LIMIT // UNIT)]
    assert set(answers) <= {SUCCESS, OUT_OF_MEMORY} and answers[-1] == OUT_OF_MEMORY, answers
    assert d.used() <= LIMIT


def run(name: str, driver: Driver) -> None:
    """One of the above."""
    globals()[name](driver)
