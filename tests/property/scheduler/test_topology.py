"""Closeness against trying everything: it is found where it is there, costs no place and no class of the policy."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.model.gpus import Gpu, GpuNode, islands
from tessera.scheduler.policy import POLICIES
from tessera.scheduler.topology import COST_CLASS, Places, close_choices, largest_group
from tests.unit.scheduler.clusters import engine, node, place, pod

labels = st.lists(st.integers(-1, 3), min_size=8, max_size=8)


@settings(deadline=None, max_examples=300)
@given(
    island=labels.map(lambda values: [value + 1 for value in values]),
    numa=labels,
    untouched=st.lists(st.booleans(), min_size=8, max_size=8),
    columns=st.sets(st.integers(0, 7), min_size=1),
    costs=st.lists(st.integers(-1, 3).map(lambda value: value * COST_CLASS // 2), min_size=8, max_size=8),
    gpus=st.integers(1, 4),
    taken=st.sets(st.integers(0, 7), max_size=2),
)
def test_the_first_is_the_closest_of_the_cheapest_class(
    island: list[int],
    numa: list[int],
    untouched: list[bool],
    columns: set[int],
    costs: list[int],
    gpus: int,
    taken: set[int],
) -> None:
    free = sorted(columns)
    found = list(close_choices(Places(island, numa, untouched), free, [costs[c] for c in free], gpus, gpus, taken))
    assert bool(found) == (len(free) >= gpus)
    if not found:
        return
    width = COST_CLASS if gpus > 1 else 1

    def level(choice: tuple[int, ...]) -> int:
        return sum(costs[column] // width for column in choice)

    best = min(map(level, combinations(free, gpus)))
    for choice in found:
        assert len(set(choice)) == gpus and columns >= set(choice) and level(choice) == best
    assert len(found) <= len(set(island)) + len(set(numa)) + 1
    equals = [choice for choice in combinations(free, gpus) if level(choice) == best]
    close = [choice for choice in equals if len({island[c] for c in choice}) == 1]
    near = [choice for choice in close if {island[c] for c in choice} <= {island[c] for c in taken}]
    one_socket = [choice for choice in equals if len({numa[c] for c in choice}) == 1 and numa[choice[0]] >= 0]
    first = tuple(sorted(found[0]))
    assert first in (near or close or one_socket or equals)


@settings(deadline=None, max_examples=150)
@given(
    groups=st.lists(st.integers(0, 2), min_size=2, max_size=4),
    before=st.lists(st.sampled_from(["gpu=1", "gpu-mem=3Gi", "gpu-mem=1Gi gpu-core=50"]), max_size=3),
    asks=st.lists(
        st.sampled_from(["gpu=1", "gpu=2", "gpu-mem=6Gi gpu-count=2", "gpu-mem=4Gi gpu-core=50", "gpu-core=40"]),
        min_size=1,
        max_size=3,
    ),
    policy=st.sampled_from(sorted(POLICIES)),
)
def test_links_neither_cost_nor_make_a_place(
    groups: list[int], before: list[str], asks: list[str], policy: str
) -> None:
    plain = node("a", *[6, 8, 8, 10][: len(groups)])
    peers = [tuple(g.uuid for g, o in zip(plain.gpus, groups, strict=True) if o == own) for own in groups]
    gpus = [replace(g, nvlink_peers=p, numa_node=n % 2) for g, p, n in zip(plain.gpus, peers, groups, strict=True)]
    cluster = engine(GpuNode("a", tuple(gpus)))
    wish = {"tessera.io/placement": policy}
    for index, ask in enumerate(before):
        if cluster.filter(early := pod(f"early{index}", ask, annotations=wish), ["a"]).nodes:
            place(cluster, early)
    other = engine(plain)
    for uid, charge in cluster.ledger.charges().items():
        other.ledger.charge(uid, charge)
    asked = pod("p", *asks, annotations=wish)
    assert cluster.fits_on(asked, "a", 2_000) == other.fits_on(asked, "a", 2_000)
    assert cluster.ledger.over_committed() == []


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=10), st.integers(0, 8))
def test_islands_are_the_closure_of_the_links(links: list[tuple[int, int]], count: int) -> None:
    gpus = [Gpu(f"G{i}", "L4", 1, 1, nvlink_peers=tuple(f"G{b}" for a, b in links if a == i)) for i in range(count)]
    reach = np.eye(count, dtype=bool)
    for a, b in links:
        if a < count and b < count:
            reach[a, b] = reach[b, a] = True
    for _ in range(count):
        reach = reach | (reach @ reach)
    found = islands(gpus)
    assert [[a == b for a in found] for b in found] == reach.tolist()
    assert sorted(set(found)) == list(range(len(set(found))))


@given(st.lists(st.tuples(labels, st.lists(st.booleans(), min_size=8, max_size=8)), min_size=1, max_size=5))
def test_the_largest_group_of_each_row_is_counted(rows: list[tuple[list[int], list[bool]]]) -> None:
    numbers, fits = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    expected = [
        max((sum(a == label and fit for a, fit in zip(own, ok, strict=True)) for label in own if label >= 0), default=0)
        for own, ok in rows
    ]
    assert largest_group(numbers, fits).tolist() == expected
