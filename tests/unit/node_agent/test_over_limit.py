"""The ladder against containers over their limit, second by second."""

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.over_limit import Graces, OverLimit, Step
from tessera.node_agent.processes import Process

C = Container("pod", "container")
GRACES = Graces(client_s=1.0, container_s=2.0, clear_s=10.0)


def usage(*used: int | None, limit: int = 10, container: Container = C, gpu: str = "GPU-a", best_effort=False) -> Usage:
    clients = tuple(Client(Process(i + 1, i + 1, container), u) for i, u in enumerate(used))
    return Usage(container, gpu, sum(u or 0 for u in used), limit, clients, ("slice",), None in used, best_effort)


def steps(machine: OverLimit, now: float, *usages: Usage) -> list[tuple[Step, int]]:
    return [(a.step, a.process.pid) for a in machine.observe(now, usages)]


def test_event_then_newest_process_then_container():
    machine = OverLimit(GRACES)
    over = usage(6, 5)
    assert steps(machine, 0.0, over) == [(Step.TELL, 2)]
    assert steps(machine, 0.5, over) == []
    assert steps(machine, 1.0, over) == [(Step.END_CLIENT, 2)]
    assert steps(machine, 2.5, over) == []
    assert steps(machine, 3.0, over) == [(Step.END_CONTAINER, 2)]
    assert steps(machine, 4.0, over) == []
    assert steps(machine, 5.0, over) == [(Step.END_CONTAINER, 2)]


def test_best_effort_makes_room_before_the_others_lose_anything():
    machine, other = OverLimit(GRACES), Container("pod", "other")
    both = (usage(6, 5), usage(6, 5, container=other, best_effort=True))
    assert steps(machine, 0.0, *both) == [(Step.TELL, 2), (Step.END_CLIENT, 2)]
    assert steps(machine, 1.0, usage(6, 3), both[1]) == []
    assert steps(machine, 2.0, both[1]) == [(Step.END_CONTAINER, 2)]


def test_at_the_limit_is_not_over():
    assert steps(OverLimit(GRACES), 0.0, usage(5, 5)) == []


def test_back_under_the_limit_nothing_more_happens():
    machine = OverLimit(GRACES)
    steps(machine, 0.0, usage(6, 5))
    for second in range(1, 30):
        assert steps(machine, float(second), usage(6)) == []
    assert machine.keys == frozenset()


def test_dipping_below_gains_nothing():
    machine = OverLimit(GRACES)
    taken = []
    for tick in range(40):
        taken += steps(machine, tick * 0.25, usage(11) if tick % 3 else usage(1))
    assert [step for step, _ in taken][:2] == [Step.TELL, Step.END_CLIENT]


def test_coming_back_over_it_counts_as_one_look():
    machine = OverLimit(Graces(client_s=1.0, container_s=1.0, clear_s=10.0, look_s=0.5))
    taken = []
    for second in range(10):
        taken += [(second, step) for step, _ in steps(machine, float(second), usage(1 if second % 2 else 11))]
    assert taken == [(0, Step.TELL), (4, Step.END_CLIENT), (8, Step.END_CONTAINER)]


def test_coming_back_after_nobody_saw_it_counts_for_nothing():
    machine = OverLimit(Graces(client_s=0.5, look_s=0.5))
    steps(machine, 0.0, usage(11))
    machine.observe(1.0, (), unread=frozenset({"GPU-a"}))
    assert steps(machine, 2.0, usage(11)) == []


def test_time_without_a_reading_over_the_limit_does_not_count():
    machine = OverLimit(GRACES)
    steps(machine, 0.0, usage(11))
    steps(machine, 0.1)
    assert steps(machine, 5.0, usage(11)) == []
    assert steps(machine, 5.9, usage(11)) == []
    assert steps(machine, 6.0, usage(11)) == [(Step.END_CLIENT, 1)]


def test_after_a_long_while_it_starts_with_an_event_again():
    machine = OverLimit(GRACES)
    steps(machine, 0.0, usage(11))
    steps(machine, 1.0, usage(11))
    steps(machine, 2.0)
    steps(machine, 12.0)
    assert steps(machine, 13.0, usage(11)) == [(Step.TELL, 1)]


def test_each_gpu_and_container_has_its_own_ladder():
    machine = OverLimit(GRACES)
    other = Container("pod", "other")
    steps(machine, 0.0, usage(11))
    taken = steps(machine, 1.0, usage(11), usage(11, gpu="GPU-b"), usage(11, container=other))
    assert [step for step, _ in taken] == [Step.END_CLIENT, Step.TELL, Step.TELL]


def test_unknown_bytes_are_not_held_against_anybody():
    machine = OverLimit(GRACES)
    assert steps(machine, 0.0, usage(None, None, limit=0)) == []
    assert steps(machine, 0.0, usage(11, None)) == [(Step.TELL, 1)]


def test_a_gpu_that_cannot_be_read_neither_counts_nor_forgets():
    machine = OverLimit(GRACES)
    steps(machine, 0.0, usage(11))
    assert steps(machine, 1.0, usage(11)) == [(Step.END_CLIENT, 1)]
    for second in range(2, 60):
        assert machine.observe(float(second), (), unread=frozenset({"GPU-a"})) == ()
    assert steps(machine, 60.0, usage(11)) == [], "the time that nobody saw is held against nobody"
    assert steps(machine, 62.0, usage(11)) == [(Step.END_CONTAINER, 1)], "and the ladder goes on where it was"


def test_another_gpu_that_cannot_be_read_keeps_no_episode():
    machine = OverLimit(GRACES)
    steps(machine, 0.0, usage(11))
    for second in range(1, 13):
        machine.observe(float(second), (), unread=frozenset({"GPU-b"}))
    assert machine.keys == frozenset()
