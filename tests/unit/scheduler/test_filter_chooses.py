"""Filter that names the policy's choice alone decides as filter and prioritize do together."""

import random

import pytest

from tessera.scheduler.engine import Engine
from tessera.scheduler.options import Options
from tessera.scheduler.policy import POLICIES
from tessera.scheduler.promises import Promise
from tests.unit.scheduler.clusters import engine, node, place, pod

NODES = [node(f"n{i}", *[24, 40, 80][i % 3 :] * 2) for i in range(12)]
NAMES = [each.name for each in NODES]
ASKS = ("gpu-mem=3Gi", "gpu-core=30", "gpu=1", "gpu-mem=4Gi gpu-core=10 gpu-count=2", "gpu=2", "gpu-mem=30Gi")


def choosing(placement: str = "fragmentation") -> Engine:
    return engine(*NODES, options=Options(placement, filter_chooses=True))


@pytest.mark.parametrize("placement", [*POLICIES])
def test_the_decisions_are_the_same(placement: str) -> None:
    both, one, rng = engine(*NODES, options=Options(placement)), choosing(placement), random.Random(1)
    for index in range(60):
        asked = pod(f"p{index}", rng.choice(ASKS), *rng.choice(((), ("gpu-mem=1Gi",))))
        names = rng.sample(NAMES, len(NAMES))
        left = both.filter(asked, names).nodes
        if not left:
            assert not one.filter(asked, names).nodes
            continue
        assert place(one, asked, names) == place(both, asked, names)
        assert one.ledger.charge_of(asked.uid) == both.ledger.charge_of(asked.uid)


def test_the_room_is_held_on_the_node_that_is_named() -> None:
    cluster = choosing()
    (chosen,) = cluster.filter(pod("p", "gpu=1"), NAMES).nodes
    assert cluster.promises()["uid-p"].kind is Promise.HOLD
    charge = cluster.ledger.charge_of("uid-p")
    assert charge is not None and charge.node == chosen


def test_asked_again_it_names_one_node_and_holds_once() -> None:
    cluster = choosing()
    first = cluster.filter(pod("p", "gpu=1"), NAMES).nodes
    assert cluster.filter(pod("p", "gpu=1"), NAMES).nodes == first
    assert len(cluster.ledger.charges()) == 1


def test_a_pod_without_slices_may_go_anywhere() -> None:
    assert choosing().filter(pod("p"), NAMES).nodes == NAMES


def test_where_nothing_fits_every_node_says_why() -> None:
    refused = choosing().filter(pod("p", "gpu-mem=99Gi"), NAMES)
    assert refused.nodes == [] and refused.unresolvable.keys() == set(NAMES)
