"""Prices, played in simulated time: who gets how much of a GPU, how soon, and how steadily."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tessera.node_agent.enforcement.pacing import FREE, Claim, Pacer, encode, targets
from tests.fakes.shared_gpu import Client, SharedGpu

ROUND_MS = 200
KERNELS = {
    "alike": ((4096, 20_000), (4096, 20_000)),
    "small beside large": ((100, 5_000), (50_000, 300_000)),
    "large beside small": ((50_000, 300_000), (100, 5_000)),
    "tiny": ((64, 3_000), (64, 3_000)),
}
"""Warps of a kernel and nanoseconds of a wave, of either client."""


@dataclass(frozen=True, slots=True)
class Round:
    """What NVML said at ``at_s``, of the round before it."""

    at_s: float
    used: Mapping[str, float]


def play(
    gpu: SharedGpu, claims: Sequence[Claim], seconds: int, events: Mapping[int, Callable[[], None]] | None = None
) -> list[Round]:
    """Lets the clients run under a pacer; ``events`` happen at their second."""
    pacer, rounds = Pacer(), [Round(0.0, {})]
    for ms in range(seconds * 1000):
        if ms % 1000 == 0 and events and ms // 1000 in events:
            events[ms // 1000]()
        if ms % ROUND_MS == 0:
            rounds += [Round(ms / 1000, gpu.read())] if ms else []
            prices = pacer.round(claims, rounds[-1].used)
            for client in gpu.clients:
                client.price = prices[client.id]
        gpu.step()
    return rounds[1:]


def settled_s(rounds: Sequence[Round], wanted: Mapping[str, float], within: float = 5.0) -> float:
    """From when on nobody is further than ``within`` points from what is wanted."""
    off = [r.at_s for r in rounds if any(abs(r.used[id_] - percent) > within for id_, percent in wanted.items())]
    return max(off, default=0.0)


def pair(kernels: str) -> list[Client]:
    return [Client(id_, *kernel) for id_, kernel in zip("ab", KERNELS[kernels], strict=True)]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("sms", [20, 46, 84, 132, 188])
def test_30_and_70_percent_hold_on_small_and_large_gpus(sms: int, kernels: str) -> None:
    rounds = play(SharedGpu(sms, pair(kernels)), [Claim("a", 30), Claim("b", 70)], 10)
    assert settled_s(rounds, {"a": 30, "b": 70}) < 2.0
    late = [r.used for r in rounds if r.at_s > 2]
    assert sum(u["a"] for u in late) / len(late) == pytest.approx(30, abs=1.5)
    assert sum(u["a"] + u["b"] for u in late) / len(late) >= 95, "of what both get without limits: the whole GPU"


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_slice_alone_gets_no_more_than_it_asked_for(kernels: str) -> None:
    rounds = play(SharedGpu(132, pair(kernels)[:1]), [Claim("a", 30)], 8)
    assert settled_s(rounds, {"a": 30}) < 2.0


@pytest.mark.parametrize("idle_s", [1, 4, 20])
def test_a_slice_that_comes_back_has_its_share_within_two_seconds(idle_s: int) -> None:
    gpu = SharedGpu(132, pair("alike"))
    lender = gpu.clients[0]

    def rest() -> None:
        lender.active = False

    def work() -> None:
        lender.active = True

    back = 4 + idle_s
    rounds = play(gpu, [Claim("a", 30), Claim("b", 70)], back + 6, {4: rest, back: work})
    assert settled_s(rounds, {"a": 30, "b": 70}) < back + 2.0
    meanwhile = [r.used["b"] for r in rounds if 5 < r.at_s <= back]
    assert all(used <= 75 for used in meanwhile), "guaranteed never bursts"


def test_kernels_that_become_a_thousand_times_lighter_are_followed() -> None:
    gpu = SharedGpu(132, [Client("a", 200_000, 300_000), Client("b", 4096, 20_000)])
    heavy = gpu.clients[0]

    def lighten() -> None:
        heavy.warps, heavy.wave_ns = 200, 3_000

    rounds = play(gpu, [Claim("a", 30), Claim("b", 70)], 10, {4: lighten})
    assert settled_s(rounds, {"a": 30, "b": 70}) < 6.0


def test_a_burstable_slice_has_what_others_leave_and_gives_it_back_within_two_seconds() -> None:
    gpu = SharedGpu(132, pair("alike"))
    lender = gpu.clients[1]
    lender.active = False

    def work() -> None:
        lender.active = True

    claims = [Claim("a", 30, 80, "burstable"), Claim("b", 70)]
    rounds = play(gpu, claims, 12, {6: work})
    assert settled_s([r for r in rounds if r.at_s <= 6], {"a": 80}) < 3.0
    assert settled_s(rounds, {"a": 30, "b": 70}) < 8.0


def test_best_effort_has_what_is_left_and_gives_it_back_within_two_seconds() -> None:
    gpu = SharedGpu(132, pair("alike"))
    paying = gpu.clients[1]
    paying.active = False

    def work() -> None:
        paying.active = True

    rounds = play(gpu, [Claim("a", 0), Claim("b", 90)], 12, {6: work})
    assert settled_s([r for r in rounds if r.at_s <= 6], {"a": 98}) < 3.0
    assert settled_s(rounds, {"b": 90}) < 8.0


def test_nobody_pays_where_nobody_asks_for_compute() -> None:
    assert Pacer().round([Claim("a", 0), Claim("b", 0)], {}) == {"a": FREE, "b": FREE}


@pytest.mark.parametrize(
    ("claims", "used", "wanted"),
    [
        pytest.param([Claim("a", 30), Claim("b", 70)], {"a": 0, "b": 70}, {"a": 30, "b": 70}, id="guaranteed"),
        pytest.param(
            [Claim("a", 30, 90, "burstable"), Claim("b", 70)], {"a": 30, "b": 0}, {"a": 90, "b": 70}, id="to its limit"
        ),
        pytest.param(
            [Claim("a", 30, 90, "burstable"), Claim("b", 70)], {"a": 30, "b": 40}, {"a": 58, "b": 70}, id="what is left"
        ),
        pytest.param(
            [Claim("a", 20, 90, "burstable"), Claim("b", 20, 40, "burstable"), Claim("c", 60)],
            {"a": 20, "b": 20, "c": 8},
            {"a": 50, "b": 40, "c": 60},
            id="two share evenly up to their limits",
        ),
        pytest.param(
            [Claim("a", 50, qos="best-effort"), Claim("b", 40), Claim("c", 0)],
            {"a": 30, "b": 38, "c": 30},
            {"a": 30, "b": 40, "c": 30},
            id="the rest evenly",
        ),
        pytest.param(
            [Claim("a", 30, 90, "burstable"), Claim("b", 70)],
            {"a": 5, "b": 0},
            {"a": 30, "b": 70},
            id="no need",
        ),
    ],
)
def test_targets(claims: list[Claim], used: dict[str, float], wanted: dict[str, float]) -> None:
    assert targets(claims, used) == pytest.approx(wanted)


def test_a_price_carries_its_check() -> None:
    assert encode(0) == 0x7E55 << 48
    assert encode(0x1234_5678_9ABC) == (0x1234 ^ 0x5678 ^ 0x9ABC ^ 0x7E55) << 48 | 0x1234_5678_9ABC
