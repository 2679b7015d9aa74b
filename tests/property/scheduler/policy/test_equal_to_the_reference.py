"""Every figure of the compiled policies, on random small clusters, is what the slow reference says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.demands import ContainerDemand, PodDemand
from tessera.model.gpus import Gpu, GpuNode
from tessera.model.hosts import HostNeed
from tessera.model.placements import Preferences
from tessera.model.quantities import GIB
from tessera.scheduler.policy import fragmentation, kernels
from tessera.scheduler.policy.fgd import Fgd
from tessera.scheduler.policy.kernels import HARDLY, NEVER, Floats, Weights
from tessera.scheduler.policy.standing import Standing
from tests.property.scheduler.policy import reference
from tests.property.scheduler.policy.strategies import Ask, World, pods, world

CASES = settings(max_examples=40, deadline=None)
NEAR = 1e-6
worlds = st.builds(
    world,
    st.integers(0, 2**20),
    st.lists(pods(), min_size=1, max_size=8),
    nodes=st.integers(1, 6),
    arrivals=st.integers(0, 40),
    disturbances=st.integers(0, 25),
    hosts=st.booleans(),
)


class Sight:
    """The compiled state of a world beside the reference's."""

    def __init__(self, given: World, seed: int = 3) -> None:
        self.standing = Standing(given.workload, seed)
        self.standing.bring_up_to_date(given.ledger, given.order())
        self.ledger, self.mix = given.ledger, self.standing.mix
        self.names = list(given.ledger.rows())
        self.rows = [given.ledger.rows()[name] for name in self.names]
        self.nodes = [reference.node_of(given.ledger, name) for name in self.names]
        self.kinds = reference.kinds_of(self.mix, given.ledger)


def only(ahead: float, gradient: float = 0.0) -> Weights:
    """The look-ahead value and the gradient of FGD's measure count, and nothing else."""
    return Weights(ahead, gradient, 0.0, 0.0, 0.0, 1.0, 1)


def gains(given: World, sight: Sight, ask: Ask, costs: list[float], later: list[float], weights: Weights) -> Floats:
    """The exact score of each node, when it is the only one offered."""
    standing, (need, demand) = sight.standing, ask
    asked, amount = standing.asked(given.ledger, need, demand)
    shape, family = standing.shape_of(asked)
    out, found = np.empty(len(given.order())), []
    for name, row in zip(sight.names, sight.rows, strict=True):
        kernels.scores(
            standing.nodes,
            standing.mix,
            asked,
            standing.memory,
            np.array(costs),
            np.array(later),
            weights,
            shape,
            family,
            float(amount),
            given.rows(name),
            standing.epoch,
            out,
        )
        assert all(out[other] == NEVER for other in range(len(out)) if other != row)
        found.append(out[row])
    return np.array(found)


@CASES
@given(worlds)
def test_slots_usable_and_idle(given: World) -> None:
    sight = Sight(given)
    memory, kinds = sight.standing.memory, sight.kinds
    for row, node in zip(sight.rows, sight.nodes, strict=True):
        assert memory.slots[row].tolist() == [reference.slots(node, kind) for kind in kinds]
        usable = [reference.usable(node, kind, sight.mix) for kind in kinds]
        assert memory.usable[:, row] == pytest.approx(usable, rel=1e-5)
        assert memory.idle[row] == pytest.approx(reference.idle(node.gpus, sight.mix))
    totals = [sum(reference.slots(node, kind) for node in sight.nodes) for kind in kinds]
    assert sight.standing.totals.tolist() == totals
    assert sight.standing.idle == pytest.approx(sum(reference.idle(node.gpus, sight.mix) for node in sight.nodes))


def test_compute_that_stays_idle_beside_full_memory_counts() -> None:
    given = World(0, hosts=False)
    given.ledger.upsert_node(GpuNode("n", (Gpu("g", "T4", 8 * GIB, 8 * GIB),)))
    fills = PodDemand("default", "pod", "pod", (ContainerDemand("c", 1, 8 * GIB, 0),), Preferences())
    sight = Sight(given)
    assert gains(given, sight, (HostNeed(), fills), [], [], only(1.0)) == pytest.approx([sight.mix.by_mem])


@CASES
@given(worlds, pods(), st.floats(0, 1))
def test_the_fall_of_the_look_ahead_value_and_of_fgd_measure(given: World, ask: Ask, gradient: float) -> None:
    sight, ahead = Sight(given), 1.0 - 0.7 * gradient
    kinds, mix, nothing = sight.kinds, sight.mix, [0.0] * len(sight.kinds)
    found = gains(given, sight, ask, nothing, nothing, only(ahead, gradient))
    for node, gain in zip(sight.nodes, found, strict=True):
        after = reference.with_pod(node, *ask)
        if after is None:
            assert NEVER < gain <= HARDLY
            continue
        expected = ahead * (reference.value(node, kinds, mix) - reference.value(after, kinds, mix))
        expected += gradient * (reference.fragments(node, kinds, mix) - reference.fragments(after, kinds, mix))
        assert gain == pytest.approx(expected, abs=1.0 + 1e-2), "below one thousandth the compiled loop stops"


@CASES
@given(worlds, pods(), st.floats(0, 1))
def test_what_lost_slots_cost(given: World, ask: Ask, leaving: float) -> None:
    sight = Sight(given)
    costs, later = np.zeros(len(sight.kinds)), np.zeros(len(sight.kinds))
    kernels.scarcity(sight.mix, sight.standing.totals, sight.standing.idle, leaving, costs, later)
    if sight.kinds:
        expected_costs, expected_later = reference.costs(sight.nodes, sight.kinds, sight.mix, leaving)
        assert costs.tolist() == pytest.approx(expected_costs)
        assert later.tolist() == pytest.approx(expected_later)
    nothing = [0.0] * len(costs)
    plain = gains(given, sight, ask, nothing, nothing, only(1.0))
    dear = gains(given, sight, ask, costs.tolist(), later.tolist(), only(1.0))
    for node, before, after in zip(sight.nodes, plain, dear, strict=True):
        taken = reference.with_pod(node, *ask)
        if taken is not None:
            lost = [reference.slots(node, kind) - reference.slots(taken, kind) for kind in sight.kinds]
            expected = sum(cost * each for cost, each in zip(costs, lost, strict=True))
            lost_later = [reference.later(node, kind) - reference.later(taken, kind) for kind in sight.kinds]
            expected += sum(cost * each for cost, each in zip(later, lost_later, strict=True))
            assert before - after == pytest.approx(expected, rel=1e-5, abs=1e-3)


@CASES
@given(worlds)
def test_prices(given: World) -> None:
    sight, steps = Sight(given), 3
    standing = sight.standing
    kernels.prices(standing.nodes, standing.mix, standing.memory, standing.cpu_per_gpu, steps)
    if not sight.kinds:
        assert not standing.memory.gpu_price.any() and not standing.memory.cpu_price.any()
        return
    expected = reference.prices(sight.nodes, sight.kinds, sight.mix, standing.cpu_per_gpu, steps)
    assert standing.memory.gpu_price[sight.rows] == pytest.approx(expected.gpu, abs=1e-3)
    assert standing.memory.cpu_price[sight.rows] == pytest.approx(expected.cpu, abs=1e-3)


@CASES
@given(worlds, pods(), st.sampled_from([0.0, 0.5, 1.0]))
def test_prices_count_while_a_cluster_fills_and_untouched_nodes_always(given: World, ask: Ask, leaving: float) -> None:
    sight = Sight(given)
    standing, nothing = sight.standing, [0.0] * len(sight.kinds)
    kernels.prices(standing.nodes, standing.mix, standing.memory, standing.cpu_per_gpu, 3)
    plain = gains(given, sight, ask, nothing, nothing, only(1.0 - 0.7 * leaving, leaving))
    priced = gains(given, sight, ask, nothing, nothing, fragmentation.weights(leaving, standing.cpu_per_gpu))
    asked, amount = standing.asked(given.ledger, *ask)
    for row, node, before, after in zip(sight.rows, sight.nodes, plain, priced, strict=True):
        if reference.with_pod(node, *ask) is not None:
            price = 0.4 * standing.memory.gpu_price[row] * amount
            price += 0.15 * standing.memory.cpu_price[row] * asked.cpu / standing.cpu_per_gpu
            untouched = 0.0 if sight.ledger.tenants[row].any() else 50.0
            assert before - after == pytest.approx((1 - leaving) * price + untouched, rel=1e-5, abs=1e-3)


@CASES
@given(worlds, pods())
def test_fgd_is_how_far_its_measure_falls(given: World, ask: Ask) -> None:
    sight = Sight(given)
    scores = Fgd(given.workload, 3).node_scores(given.ledger, *ask, given.rows(), given.order())
    for row, node in zip(sight.rows, sight.nodes, strict=True):
        after = reference.with_pod(node, *ask)
        if after is None:
            assert NEVER < scores[row] <= HARDLY
            continue
        kinds, mix = sight.kinds, sight.mix
        expected = reference.fragments(node, kinds, mix) - reference.fragments(after, kinds, mix)
        assert scores[row] == pytest.approx(expected, rel=1e-5, abs=1e-2)
    others = set(range(len(scores))) - set(sight.rows)
    assert all(scores[row] == NEVER for row in others)
