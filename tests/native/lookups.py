"""What cuGetProcAddress answers, for every name at every version where the answer may change."""

from collections.abc import Iterator
from ctypes import byref, c_int, c_uint64, c_void_p
from pathlib import Path

from tests.native.driver import DEFAULT, LEGACY, NOT_FOUND, PER_THREAD, SUCCESS, Driver

ALIAS = ("cuGraphInstantiateWithFlags", "cuGraphInstantiate", 12000, False)
NEWER = "cuMemAlloc"
FLAGS = (DEFAULT, LEGACY, PER_THREAD)


def expected(d: Driver, base: str, version: int, flags: int) -> str | None:
    """The symbol of the newest variant for a version; the thread's own if it is asked for and there is one."""
    found = [
        (per_thread, since, symbol)
        for symbol, name, since, per_thread in [*d.table, ALIAS]
        if name == base and since <= version and (not per_thread or flags == PER_THREAD)
    ]
    return max(found)[2] if found else None


def file_at(address: int) -> str:
    """The file that is mapped there."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            return line.split()[-1]
    return ""


def questions(d: Driver) -> Iterator[tuple[str, int, int]]:
    """Each name, just before and at each version at which any name changes, with each kind of stream."""
    versions = sorted({around for _, _, since, _ in d.table for around in (since - 1, since)} | {13050, 99999})
    for base in sorted({base for _, base, _, _ in d.table}):
        for version in versions:
            for flags in FLAGS:
                yield base, version, flags


def every_answer(d: Driver) -> None:
    """Ours, and the right one, whatever address the driver answered; and none where the driver has none."""
    newest = c_int()
    d.ok("cuDriverGetVersion", byref(newest))
    for base, version, flags in questions(d):
        symbol = expected(d, base, min(version, newest.value), flags)
        ours = d.default(symbol) if symbol else None
        for which in ("v1", "v2"):
            _, address = d.answered(which, base, version, flags)
            assert address == ours, f"{base} {version} {flags} {which}: {address}, not {symbol} at {ours}"


def a_name_with_its_version(d: Driver) -> None:
    """A symbol's own name is no base name, unless it is."""
    for symbol, base, _, _ in d.table:
        if symbol != base:
            assert d.answered("v2", symbol, 13050, DEFAULT)[1] in (None, d.default(symbol))


def names_that_are_not_ours(d: Driver) -> None:
    """Are the driver's own."""
    for name in ("cuInit", "cuDeviceGet", "cuStreamCreate"):
        for which in ("v1", "v2"):
            code, address = d.answered(which, name, 13050, DEFAULT)
            assert code == SUCCESS and address and file_at(address).endswith("/libcuda.so.1")


def newer_than_known(d: Driver) -> None:
    """A variant whose arguments nobody knows is not there, and leaves its name; older ones are there still."""
    assert d.answered("v2", NEWER, 13050, DEFAULT) == (SUCCESS, d.default("cuMemAlloc_v2"))
    assert not d.ledger.unknown()
    for flags in FLAGS:
        assert d.answered("v1", NEWER, 14000, flags) == (NOT_FOUND, None)
        out, status = c_void_p(), c_int()
        code = d("cuGetProcAddress_v2", NEWER.encode(), byref(out), 14000, flags, byref(status))
        assert (code, out.value, status.value) == (NOT_FOUND, None, 1)
        assert d("cuGetProcAddress_v2", NEWER.encode(), byref(out), 14000, flags, 0) == NOT_FOUND
    assert d.ledger.unknown() == NEWER
    d.new("cuMemAlloc_v2", 1)
    d.holds(1)


def an_unknown_address_of_a_known_version(d: Driver) -> None:
    """The header of this shim says what that version's arguments are."""
    assert d.answered("v2", NEWER, 13040, DEFAULT) == (SUCCESS, d.default("cuMemAlloc_v2"))
    out = c_uint64()
    assert d("cuMemAlloc_v2", byref(out), 1) == SUCCESS
    d.holds(1)


def run(name: str, driver: Driver) -> None:
    """One of the above."""
    globals()[name](driver)
