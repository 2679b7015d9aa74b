"""Turns on one GPU, through the gate of the shim itself, in simulated time."""

import ctypes
import subprocess
import sys
from ctypes import byref, c_bool
from pathlib import Path

import pytest

from tessera.node_agent.enforcement.pacing import Claim
from tests.native.gpu_in_turns import EPOCH_NS, CGate, CTurn, Program, Simulation, gate_library, shared_by_threads

SOURCE = Path(__file__).resolve().parents[2] / "native" / "src" / "gate.c"
US, MS = 1_000, 1_000_000


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The gate as the shim has it."""
    out = tmp_path_factory.mktemp("gate") / "libgate.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-std=gnu11", "-O2", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(out), str(SOURCE)], check=True, capture_output=True)
    return gate_library(str(out))


def kernels(sms: int, *sizes_us: int) -> list[tuple[int, int]]:
    """Kernels of so many microseconds on 132 multiprocessors, on a GPU of ``sms``; their warps say little of them."""
    return [(size * US * 132 // sms, 64 + 977 * (place + 1) % 4096) for place, size in enumerate(sizes_us)]


MIXES = {"small": (8, 20, 5), "large": (200,), "mixed": (10, 900, 60, 300), "longest": (2500,)}


@pytest.mark.parametrize("sms", [20, 58, 108, 132, 188])
@pytest.mark.parametrize("mix", MIXES)
def test_thirty_and_seventy(lib: ctypes.CDLL, sms: int, mix: str):
    work = kernels(sms, *MIXES[mix])
    pair = [Program(Claim("thirty", 30), work), Program(Claim("seventy", 70), work)]
    found = Simulation(lib, pair).run(4)
    split = [found.share(id_, 2) for id_ in ("thirty", "seventy")]
    assert split[0] / sum(split) == pytest.approx(0.3, abs=0.05)
    assert sum(split) >= 0.95
    ripple = [window["thirty"] for window in found.windows[3:]]
    assert max(ripple) - min(ripple) <= 0.05


def test_unequal_kernels(lib: ctypes.CDLL):
    """Who launches long kernels gets no more for it."""
    pair = [Program(Claim("small", 30), kernels(132, 20)), Program(Claim("long", 70), kernels(132, 1500))]
    found = Simulation(lib, pair).run(4)
    split = [found.share(id_, 2) for id_ in ("small", "long")]
    assert split[0] / sum(split) == pytest.approx(0.3, abs=0.05)
    assert sum(split) >= 0.9


def test_a_program_that_waits_for_its_work(lib: ctypes.CDLL):
    """Small batches leave the GPU idle in between, so it does less than its share; the neighbour loses nothing."""
    pair = [
        Program(Claim("batches", 50), kernels(132, 100), batch=4),
        Program(Claim("steady", 50), kernels(132, 100)),
    ]
    found = Simulation(lib, pair).run(4)
    assert found.share("steady", 2) == pytest.approx(0.5, abs=0.05)
    assert 0.4 <= found.share("batches", 2) <= 0.55


def test_guaranteed_gets_no_more(lib: ctypes.CDLL):
    found = Simulation(lib, [Program(Claim("alone", 30), kernels(132, 200))]).run(3)
    assert found.share("alone", 2) == pytest.approx(0.3, abs=0.05)


def test_idle_share_is_lent_and_returned(lib: ctypes.CDLL):
    """Best-effort has the GPU while the owner rests; within two seconds the owner has its own again."""
    owner = Program(Claim("owner", 70), kernels(132, 200), active=lambda now: not 2e9 <= now < 4e9)
    guest = Program(Claim("guest", 0, qos="best-effort"), kernels(132, 200))
    found = Simulation(lib, [owner, guest]).run(8)
    assert found.share("guest", 0) > 0
    resting = found.windows[6:8]
    assert all(window["guest"] >= 0.95 for window in resting)
    back = found.windows[12:]
    assert all(window["owner"] == pytest.approx(0.7, abs=0.05) for window in back)


def test_burst_goes_to_its_limit(lib: ctypes.CDLL):
    found = Simulation(lib, [Program(Claim("burst", 30, 60, "burstable"), kernels(132, 200))]).run(3)
    assert found.share("burst", 2) == pytest.approx(0.6, abs=0.05)


def test_kernels_longer_than_a_turn(lib: ctypes.CDLL):
    """They overrun their turns and pay for it with the next ones."""
    pair = [Program(Claim("huge", 30), kernels(132, 30_000)), Program(Claim("small", 70), kernels(132, 100))]
    found = Simulation(lib, pair).run(6)
    split = [found.share(id_, 4) for id_ in ("huge", "small")]
    assert split[0] / sum(split) == pytest.approx(0.3, abs=0.15)


@pytest.mark.parametrize(("percent", "long_ms"), [(5, 20), (5, 200), (30, 60), (30, 2000), (50, 100)])
@pytest.mark.parametrize("batch", [0, 1])
def test_kernels_that_fit_into_no_turn_get_no_more_than_the_slice_has(
    lib: ctypes.CDLL, percent: int, long_ms: int, batch: int
):
    alone = Program(Claim("huge", percent), kernels(132, 1000 * long_ms), batch)
    assert Simulation(lib, [alone]).run(60).share("huge", 20) == pytest.approx(percent / 100, abs=0.02)


@pytest.mark.parametrize(("percent", "long_ms"), [(5, 200), (30, 60), (30, 200), (50, 100)])
def test_a_neighbour_of_such_kernels_has_most_of_its_own(lib: ctypes.CDLL, percent: int, long_ms: int):
    pair = [Program(Claim("huge", percent), kernels(132, 1000 * long_ms)),
            Program(Claim("small", 100 - percent), kernels(132, 500))]  # fmt: skip
    found = Simulation(lib, pair).run(40)
    assert 0.4 * percent / 100 <= found.share("huge", 20) <= percent / 100 + 0.01
    assert found.share("small", 20) >= 0.7 * (100 - percent) / 100


@pytest.mark.parametrize("threads", [1, 8, 64])
@pytest.mark.parametrize("long_ms", [1, 20, 200])
def test_many_threads_get_no_more_than_one(lib: ctypes.CDLL, threads: int, long_ms: int):
    """Each launches a kernel, waits for it, and launches the next; the gate is their process's."""
    assert shared_by_threads(lib, threads, long_ms * MS, 5) <= 0.05 + 0.01


def test_a_turn_that_lets_nothing_through_lets_one_through_every_two_seconds(lib: ctypes.CDLL):
    """Whatever stands in the file."""
    gate, turn, went = CGate(), CTurn(0, 1), []
    for now in range(EPOCH_NS + MS, EPOCH_NS + 7_000 * MS, 10 * MS):
        if not lib.gate_ask(byref(gate), turn, now, 64, byref(c_bool())):
            lib.gate_launched(byref(gate), now, 64)
            went.append((now - EPOCH_NS) // MS)
    assert went == [2001, 4011, 6021]


def test_who_asks_late_with_an_earlier_time_is_not_let_through_for_it(lib: ctypes.CDLL):
    """Threads come with the time at which they looked, not in its order."""
    gate, turn, waits = CGate(), CTurn(0, 30 * MS), []
    for now in (10 * MS, 50 * MS + 1000, 50 * MS, 50 * MS + 1000, 49 * MS):
        waits.append(int(lib.gate_ask(byref(gate), turn, EPOCH_NS + now, 64, byref(c_bool()))))
        if not waits[-1]:
            lib.gate_launched(byref(gate), EPOCH_NS + now, 64)
    assert waits[0] == 0 and min(waits[1:]) == 100 * MS - 50 * MS - 1000


def test_no_turn_is_counted_twice(lib: ctypes.CDLL):
    gate, turn = CGate(), CTurn(0, 30 * MS)
    for now in (0, 1):
        lib.gate_ask(byref(gate), turn, EPOCH_NS + now, 64, byref(c_bool()))
    gate.owed = 10 * 30 * MS
    owed = []
    for now in (100 * MS + 10, 100 * MS - 10, 100 * MS + 20, 100 * MS - 5, 100 * MS + 30):
        lib.gate_ask(byref(gate), turn, EPOCH_NS + now, 64, byref(c_bool()))
        owed.append(gate.owed // MS)
    assert owed == [270] * 5
