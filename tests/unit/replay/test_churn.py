"""The queue under churn: first in, first out, with backfill, over the first 300."""

from tessera.simulator.replay.arrivals import Arrival
from tessera.simulator.replay.churn import WINDOW, Churn, churn
from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.openb import Shape, TraceNode

WHOLE, TWO, HALF = Shape(1000, 1, 1, 1000), Shape(1000, 1, 2, 1000), Shape(1000, 1, 1, 500)


def cluster(gpus: int = 2) -> Cluster:
    return Cluster([TraceNode("n1", 64_000, 65_536, gpus, "T4")], "pack", 0)


def test_who_finds_no_room_waits_and_small_ones_pass() -> None:
    queue = Churn(room := cluster())
    queue.come(Arrival(0.0, WHOLE, 10.0))
    queue.come(Arrival(1.0, TWO, 10.0))
    queue.come(Arrival(2.0, WHOLE, 1.0))
    assert queue.waiting == [TWO] and queue.queue_milli == 2000 and room.allocated_milli == 2000


def test_who_came_first_is_placed_first_when_room_comes_free() -> None:
    queue = Churn(room := cluster(1))
    queue.come(Arrival(0.0, WHOLE, 1.0))
    queue.come(Arrival(0.1, HALF, 5.0))
    queue.come(Arrival(0.2, WHOLE, 5.0))
    queue.come(Arrival(0.3, HALF, 5.0))
    assert queue.waiting == [HALF, WHOLE, HALF]
    queue.come(Arrival(2.0, HALF, 5.0))
    assert queue.waiting == [WHOLE, HALF] and room.allocated_milli == 1000
    queue.come(Arrival(6.1, HALF, 5.0))  # the halves leave one by one, and each makes room for a half, not for a whole
    assert queue.waiting == [WHOLE] and room.allocated_milli == 1000 and queue.queue_milli == 1000


def test_a_life_begins_when_the_pod_is_placed() -> None:
    queue = Churn(room := cluster(1))
    queue.come(Arrival(0.0, WHOLE, 3.0))
    queue.come(Arrival(1.0, WHOLE, 3.0))
    queue.come(Arrival(5.0, TWO, 1.0))
    assert room.allocated_milli == 1000, "placed at 3, so there until 6"
    queue.come(Arrival(6.5, TWO, 1.0))
    assert room.allocated_milli == 0 and queue.waiting == [TWO, TWO]


def test_beyond_the_window_nobody_is_tried_until_it_moves_on() -> None:
    queue = Churn(room := cluster(2))
    queue.come(Arrival(0.0, WHOLE, 1.0))
    for _ in range(WINDOW):
        queue.come(Arrival(0.1, TWO, 1.0))
    queue.come(Arrival(0.2, WHOLE, 9.0))
    assert room.allocated_milli == 1000 and len(queue.waiting) == WINDOW + 1, "there is room, but 300 wait before it"
    queue.come(Arrival(1.5, TWO, 1.0))  # at 1.0 the first of the queue was placed
    assert room.allocated_milli == 2000 and queue.waiting[-2:] == [WHOLE, TWO]


def test_averages_are_of_the_second_half() -> None:
    arrivals = [Arrival(float(at), WHOLE, 100.0) for at in range(8)]
    means = churn(cluster(4), arrivals, 8, lambda _: None)
    assert means.samples == 4
    assert means.allocated_percent == 100.0
    assert means.queue_percent == 100 * (1 + 2 + 3 + 4) / 4 / 4
