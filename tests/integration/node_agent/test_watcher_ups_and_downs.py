"""The watcher against programs that go over their limit and below it again: they end as if they had stayed over it.

With the agent and the host of ``test_watcher_trials``; a neighbour does the same within its limit, and stays.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.moving_host import MIB, Task, cgroup
from tests.integration.node_agent.test_watcher_trials import LIMIT_MIB, PODS, Trial, _quiet

__all__ = ["_quiet"]

LOOKS = 7
"""Over the limit until all is over: two until it is certain, and the two graces, with one look lost in each."""
FEWEST_S, MOST_S = 0.26, 1.0
"""How long a phase lasts that is random; the shorter one is seen by one look at least."""

Over = Callable[[float], bool]


def regular(over_s: float, under_s: float, first_s: float) -> Over:
    """Over the limit for so long and below it for so long, from ``first_s`` on."""
    return lambda now: (now + first_s) % (over_s + under_s) < over_s


def random_phases(trial: Trial) -> Over:
    """Over and under by turns, each time for another while."""
    until, over = trial.host.now, False

    def is_over(now: float) -> bool:
        nonlocal until, over
        while now >= until:
            over = not over
            until += trial.chance.uniform(FEWEST_S, MOST_S)
        return over

    return is_over


async def looks_over(trial: Trial, over: Over, culprit: Task, neighbour: Task) -> int:
    """How many looks found it over its limit until it was ended."""
    looks, begun = 0, trial.host.now
    while culprit.pid in trial.host.tasks:
        is_over = over(trial.host.now)
        culprit.used_bytes = (8 * LIMIT_MIB if is_over else 10) * MIB
        neighbour.used_bytes = (LIMIT_MIB if is_over else 10) * MIB
        looks += is_over
        await trial.round()
        assert looks <= LOOKS
        assert trial.host.now - begun <= 2 * LOOKS * MOST_S
    return looks


async def tried(trial: Trial, number: int, over: Over, processes: int) -> int:
    """The culprit is the oldest of ``processes``, so that of several the container has to end."""
    ours, beside = (cgroup(trial.pods[(number + away) % PODS], trial.chance) for away in (0, 1))
    culprit, *_ = [trial.host.start(ours, 10) for _ in range(processes)]
    neighbour = trial.host.start(beside, 10)
    looks = await looks_over(trial, over, culprit, neighbour)
    assert trial.host.tasks == {neighbour.pid: neighbour}
    trial.host.tasks.clear()
    return looks


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(("over_s", "under_s"), [(0.45, 0.3), (0.3, 0.45), (0.25, 0.25), (0.26, 1.5)])
async def test_a_regular_one_is_ended(tmp_path: Path, over_s: float, under_s: float, processes: int):
    trial = await Trial(tmp_path, 7, 0.0).ready()
    for number in range(10):
        first_s = trial.chance.uniform(0, over_s + under_s)
        await tried(trial, number, regular(over_s, under_s, first_s), processes)
    assert len(trial.host.killed) == 10 * processes


async def test_a_hundred_random_ones_are_ended(tmp_path: Path):
    trial = await Trial(tmp_path, 8, 0.0).ready()
    looks = [await tried(trial, number, random_phases(trial), 1 + number % 3) for number in range(100)]
    assert (len(looks), min(looks) >= 3) == (100, True), "and none sooner than one that stays over its limit"


async def test_once_over_the_limit_is_nobodys_end(tmp_path: Path):
    """A look every five seconds that finds it there, each time another process: whose memory it was is not certain."""
    trial = await Trial(tmp_path, 9, 0.0).ready()
    path = trial.container(trial.pods[0], 1, 10)
    for number in range(400):
        large = trial.host.start(path, 8 * LIMIT_MIB) if number % 20 == 0 else None
        await trial.round()
        if large:
            del trial.host.tasks[large.pid]
    assert trial.host.killed == []
