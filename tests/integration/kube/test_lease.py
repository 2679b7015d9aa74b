"""Leadership in simulated time, on a Lease of a real (in-process) API server: never two leaders."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from tessera.kube.connection import plain
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.simulator.apiserver import ApiServer


class Clock:
    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


def candidate(
    gateway: Gateway, clock: Clock, name: str, *, skew_s: float = 0.0, notes: Mapping[str, str] | None = None
) -> LeaderLease:
    """``skew_s``: how wrong this machine's wall clock is, which must not matter."""
    return LeaderLease(
        gateway,
        "kube-system",
        "tessera",
        name,
        notes=lambda: notes or {},
        clock=clock,
        now=lambda: clock.now() + timedelta(seconds=skew_s),
        rng=random.Random(1),
    )


async def test_the_first_leads_and_the_second_waits_out_its_lease(gateway: Gateway) -> None:
    clock = Clock()
    one, two = candidate(gateway, clock, "one"), candidate(gateway, clock, "two", skew_s=-4000)
    await one.step()
    await two.step()
    assert one.leading and not two.leading and two.holder == "one"
    assert one.valid_for(4.0) and not one.valid_for(15.0)
    clock.at = 14.0
    await two.step()
    assert one.leading and not one.valid_for(4.0) and not two.leading
    clock.at = 14.9
    assert not one.leading, "the old leader stops before anybody else may start"
    await two.step()
    assert not two.leading
    clock.at = 15.0
    await two.step()
    assert two.leading and two.epoch == one.epoch + 1


async def test_what_a_leader_notes_is_read_by_the_next_and_kept_until_it_notes_anew(gateway: Gateway) -> None:
    clock, own = Clock(), dict[str, str]()
    one, two = candidate(gateway, clock, "one", notes={"n": "0.9"}), candidate(gateway, clock, "two", notes=own)
    assert two.annotations is None
    await one.step()
    await two.step()
    assert two.annotations == {"n": "0.9"}
    await one.release()
    await two.step()
    assert two.leading and two.annotations == {"n": "0.9"}
    own["n"] = "0.5"
    await two.step()
    await one.step()
    assert one.annotations == {"n": "0.5"}


async def test_a_renewal_starts_the_wait_anew(gateway: Gateway) -> None:
    clock = Clock()
    one, two = candidate(gateway, clock, "one"), candidate(gateway, clock, "two")
    await one.step()
    await two.step()
    clock.at = 10.0
    await one.step()
    clock.at = 16.0
    await two.step()
    assert one.leading and not two.leading
    clock.at = 26.0
    await two.step()
    assert not two.leading, "the change was seen at 16 s: the wait counts from there"
    clock.at = 31.0
    await two.step()
    assert two.leading


async def test_release_lets_the_next_one_start_at_once(gateway: Gateway) -> None:
    clock = Clock()
    one, two = candidate(gateway, clock, "one"), candidate(gateway, clock, "two")
    await one.step()
    await one.release()
    assert not one.leading
    await two.step()
    assert two.leading


async def test_a_renewal_with_a_lost_answer_does_not_count_until_it_is_known(
    gateway: Gateway, server: ApiServer
) -> None:
    clock = Clock()
    one = candidate(gateway, clock, "one")
    await one.step()
    clock.at = 10.0
    server.faults.lose_answers(9, plural="leases")
    await one.step()
    assert one.leading and not one.valid_for(5.0), "still counted from the renewal at 0 s"
    server.faults.clear()
    await one.step()
    assert one.valid_for(14.0)


async def test_a_leader_that_slept_through_its_lease_does_not_take_it_back(gateway: Gateway) -> None:
    clock = Clock()
    one, two = candidate(gateway, clock, "one"), candidate(gateway, clock, "two")
    await one.step()
    await two.step()
    clock.at = 100.0
    await two.step()
    assert two.leading and not one.leading
    await one.step()
    assert not one.leading and one.holder == "two"


@pytest.mark.parametrize("seed", range(5))
async def test_never_two_leaders(server: ApiServer, seed: int) -> None:
    rng = random.Random(seed)
    clock = Clock()
    async with Gateway(plain(server.url)) as gateway:
        candidates = [candidate(gateway, clock, f"c{n}", skew_s=rng.uniform(-9999, 9999)) for n in range(3)]
        terms: list[str] = []
        for _ in range(300):
            clock.at += rng.choice([0.5, 2.0, 2.0, 7.0])
            if rng.random() < 0.2:
                getattr(server.faults, rng.choice(["fail_next", "lose_answers"]))(1, plural="leases")
            await rng.choice(candidates).step()
            leaders = [c.holder for c in candidates if c.leading]
            assert len(leaders) <= 1
            terms += [name for name in leaders if terms[-1:] != [name]]
        assert terms
