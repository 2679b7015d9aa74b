"""What the policies remember never shows: after any history they answer as one that was made this moment."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.scheduler.policy.fgd import Fgd
from tessera.scheduler.policy.fragmentation import Fragmentation
from tessera.scheduler.policy.kernels import HARDLY, NEVER
from tests.property.scheduler.policy.strategies import Ask, World, pods
from tests.property.scheduler.policy.test_equal_to_the_reference import Sight, gains, only

CASES = settings(max_examples=15, deadline=None)
asks_of = st.lists(pods(), min_size=1, max_size=6)
STEPS = {
    "disturb": World.disturb,
    "node": World.add_node,
    "gone": lambda given: given.ledger.remove_node(given.chance.choice(list(given.ledger.rows()))),
    "host": lambda given: given.ledger.remove_host(given.chance.choice(list(given.ledger.rows()))),
}
histories = st.lists(st.sampled_from([*STEPS, "disturb", "disturb", "learn", "copy"]), min_size=1, max_size=15)


def started(seed: int, asks: list[Ask]) -> World:
    """GPUs alike, because the mix counts in mean GPUs and is not learnt anew for each node that comes or goes."""
    given = World(seed, alike=True)
    for _ in range(3):
        given.add_node()
    given.arrive(asks, 16)
    return given


def moved(given: World, step: str, asks: list[Ask]) -> None:
    """``learn``: so many arrive that the mix is due."""
    if step == "learn":
        due = given.workload.due
        while given.workload.due == due and due < 5:
            given.arrive(asks, 1)
    elif step != "copy" and given.ledger.rows():
        STEPS[step](given)


@CASES
@given(st.integers(0, 2**20), asks_of, histories)
def test_the_exact_gains(seed: int, asks: list[Ask], history: list[str]) -> None:
    given = started(seed, asks)
    old = Sight(given)
    for step in history:
        moved(given, step, asks)
        ask = given.chance.choice(asks)
        seen = [given.ledger, given.ledger.copy()] if step == "copy" else [given.ledger]
        for ledger in reversed(seen):
            given.ledger = ledger
            if len(seen) > 1 and ledger is not seen[0]:
                given.disturb()
            old.standing.bring_up_to_date(ledger, given.order())
            new = Sight(given)
            old.names, old.rows = new.names, new.rows
            old.mix = old.standing.mix
            costs = new.standing.cost
            np.testing.assert_array_equal(old.mix.models, new.mix.models)
            np.testing.assert_array_equal(old.standing.totals, new.standing.totals)
            assert old.standing.idle == pytest.approx(new.standing.idle)
            weights = [1.0] * len(costs)
            both = [gains(given, sight, ask, weights, weights, only(0.3, 1.0)) for sight in (old, new)]
            assert both[0] == pytest.approx(both[1])


@CASES
@given(st.integers(0, 2**20), asks_of, histories)
def test_fgd(seed: int, asks: list[Ask], history: list[str]) -> None:
    given = started(seed, asks)
    old = Fgd(given.workload, 5)
    for step in history:
        moved(given, step, asks)
        ask = given.chance.choice(asks)
        found = old.node_scores(given.ledger, *ask, given.rows(), given.order())
        fresh = Fgd(given.workload, 5).node_scores(given.ledger, *ask, given.rows(), given.order())
        assert found == pytest.approx(fresh, rel=1e-9, abs=1e-9)


@CASES
@given(st.integers(0, 2**20), asks_of, histories)
def test_the_same_history_gives_the_same_answers(seed: int, asks: list[Ask], history: list[str]) -> None:
    def answers(make: Callable[[World], Fragmentation | Fgd]) -> list[list[float]]:
        given = started(seed, asks)
        policy, out = make(given), []
        for step in history:
            moved(given, step, asks)
            ask = given.chance.choice(asks)
            given.workload.saw(*ask)
            out.append(policy.node_scores(given.ledger, *ask, given.rows(), given.order()).tolist())
        return out

    for policy in (Fragmentation, Fgd):
        assert answers(lambda given, p=policy: p(given.workload, 5)) == answers(
            lambda given, p=policy: p(given.workload, 5)
        )


@CASES
@given(st.integers(0, 2**20), asks_of, histories)
def test_rows_that_are_no_candidates_never_win(seed: int, asks: list[Ask], history: list[str]) -> None:
    given = started(seed, asks)
    policies = (Fragmentation(given.workload, 5), Fgd(given.workload, 5))
    for step in history:
        moved(given, step, asks)
        offered = given.rows() & np.array([given.chance.random() < 0.5 for _ in given.order()])
        before = deepcopy(given.ledger.free_bytes), deepcopy(given.ledger.free_percent)
        for policy in policies:
            found = policy.node_scores(given.ledger, *given.chance.choice(asks), offered, given.order())
            assert (found[~offered] == NEVER).all() and (found[offered] > NEVER).all()
            assert found[offered].size == 0 or found.max() < -HARDLY
        after = given.ledger.free_bytes, given.ledger.free_percent
        assert all((one == other).all() for one, other in zip(before, after, strict=True)), "the ledger is only read"
