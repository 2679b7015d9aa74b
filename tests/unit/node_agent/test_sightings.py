"""What two readings in a row say of the same process."""

import pytest

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process
from tessera.node_agent.sightings import FORGOTTEN, READINGS, Sightings

MAIN, NOW = Container("pod", "aa"), 100


def usage(*used: tuple[int, int | None], gpu: str = "G0", limit: int = 10) -> Usage:
    """Of processes by their start; their ids are all the same."""
    clients = tuple(Client(Process(7, started, MAIN), size) for started, size in used)
    return Usage(MAIN, gpu, sum(size or 0 for _, size in used), limit, clients, ("s",))


def test_a_process_counts_from_the_second_reading_on_with_the_lesser():
    sightings = Sightings()
    assert [u.used_bytes for u in sightings.certain([usage((1, 20))], NOW)] == [0]
    assert [u.used_bytes for u in sightings.certain([usage((1, 15))], NOW)] == [15]


def test_below_the_limit_the_last_reading_counts_not_the_most():
    sightings = Sightings()
    sightings.certain([usage((1, 9))], NOW)
    sightings.certain([usage((1, 2))], NOW)
    assert [u.used_bytes for u in sightings.certain([usage((1, 20))], NOW)] == [2]


@pytest.mark.parametrize("between", [(usage((1, 1)),), ()])
def test_the_two_readings_need_not_be_in_a_row(between):
    sightings = Sightings()
    found = []
    for _ in range(3):
        found += [one.over for one in sightings.certain([usage((1, 20))], NOW)]
        found += [one.over for one in sightings.certain(between, NOW)] or [False]
    assert found == [False, False, True, False, True, False]


def test_what_was_told_is_forgotten_a_while_after_the_overrun():
    sightings = Sightings()
    for readings, certain in ((FORGOTTEN - 1, True), (FORGOTTEN, False)):
        sightings.certain([usage((1, 20))], NOW)
        for _ in range(readings):
            sightings.certain([usage((1, 1))], NOW)
        assert sightings.certain([usage((1, 20))], NOW)[0].over is certain
        for _ in range(FORGOTTEN):
            sightings.certain([usage((1, 1))], NOW)


def test_another_process_of_the_same_id_is_not_the_same():
    sightings = Sightings()
    sightings.certain([usage((1, 20))], NOW)
    assert [u.used_bytes for u in sightings.certain([usage((2, 20))], NOW)] == [0]


def test_memory_that_is_handed_on_counts_in_the_end():
    sightings = Sightings()
    found = [sightings.certain([usage((started, 20))], NOW)[0].over for started in range(READINGS)]
    assert found == [False] * (READINGS - 1) + [True]
    for _ in range(READINGS):
        sightings.certain([usage((9, 1))], NOW)
    assert not sightings.certain([usage((10, 20))], NOW)[0].over


def test_memory_that_is_handed_on_counts_though_one_reading_in_three_is_under():
    sightings = Sightings()
    found = [sightings.certain([usage((n, 1 if n % 3 == 2 else 20))], NOW)[0].over for n in range(3 * READINGS)]
    assert found.index(True) <= 3 * READINGS - 2


def test_as_often_under_as_over_nothing_that_is_handed_on_is_certain():
    """Each reading may be a wrong one: another's id, each time."""
    sightings = Sightings()
    assert not any(sightings.certain([usage((n, 20 if n % 2 else 1))], NOW)[0].over for n in range(20 * READINGS))


def test_a_gpu_that_is_not_read_loses_nothing():
    sightings = Sightings()
    sightings.certain([usage((1, 20))], NOW)
    sightings.certain([], NOW, frozenset({"G0"}))
    assert sightings.certain([usage((1, 20))], NOW)[0].over


def test_another_gpu_is_another_matter():
    sightings = Sightings()
    sightings.certain([usage((1, 20))], NOW)
    assert not sightings.certain([usage((1, 20), gpu="G1")], NOW)[0].over


def test_untold_bytes_stay_untold():
    sightings = Sightings()
    sightings.certain([usage((1, None))], NOW)
    assert sightings.certain([usage((1, None))], NOW)[0].clients[0].used_bytes is None


def test_a_process_that_began_meanwhile_is_not_the_one_that_was_meant():
    sightings = Sightings()
    for _ in range(2):
        assert not sightings.certain([usage((NOW, 20))], NOW)[0].over
    assert not sightings.certain([usage((NOW, 20))], NOW + 1)[0].over
    assert sightings.certain([usage((NOW, 20))], NOW + 2)[0].over
