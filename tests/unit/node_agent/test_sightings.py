"""What two readings in a row say of the same process."""

from tessera.node_agent.accounting import Client, Usage
from tessera.node_agent.cgroups import Container
from tessera.node_agent.processes import Process
from tessera.node_agent.sightings import READINGS, Sightings

MAIN, NOW = Container("pod", "aa"), 100


def usage(*used: tuple[int, int | None], gpu: str = "G0", limit: int = 10) -> Usage:
    """Of processes by their start; their ids are all the same."""
    clients = tuple(Client(Process(7, started, MAIN), size) for started, size in used)
    return Usage(MAIN, gpu, sum(size or 0 for _, size in used), limit, clients, ("s",))


def test_a_process_counts_from_the_second_reading_on_with_the_lesser():
    sightings = Sightings()
    assert [u.used_bytes for u in sightings.certain([usage((1, 20))], NOW)] == [0]
    assert [u.used_bytes for u in sightings.certain([usage((1, 15))], NOW)] == [15]
    assert [u.used_bytes for u in sightings.certain([usage((1, 20))], NOW)] == [15]


def test_another_process_of_the_same_id_is_not_the_same():
    sightings = Sightings()
    sightings.certain([usage((1, 20))], NOW)
    assert [u.used_bytes for u in sightings.certain([usage((2, 20))], NOW)] == [0]


def test_memory_that_is_handed_on_counts_in_the_end():
    sightings = Sightings()
    found = [sightings.certain([usage((started, 20))], NOW)[0].over for started in range(READINGS)]
    assert found == [False] * (READINGS - 1) + [True]
    sightings.certain([usage((9, 1))], NOW)
    assert not sightings.certain([usage((10, 20))], NOW)[0].over


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
