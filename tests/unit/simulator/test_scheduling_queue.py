"""The order in which the stand-in for kube-scheduler tries pods."""

from tessera.simulator.kube_scheduler.queue import FLUSH_S, Queue


def test_pods_are_tried_in_the_order_in_which_they_came() -> None:
    queue = Queue()
    for uid in ("a", "b", "a"):
        queue.add(uid)
    assert [queue.take(0), queue.take(0), queue.take(0)] == ["a", "b", None]


def test_a_failed_try_waits_twice_as_long_each_time_up_to_ten_seconds() -> None:
    queue, now, waits = Queue(), 0.0, []
    queue.add("a")
    for _ in range(6):
        assert queue.take(now) == "a"
        queue.retry("a")
        assert queue.take(now) is None
        due = queue.due()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_parked_pod_waits_for_an_event_and_is_then_tried_at_once() -> None:
    queue = Queue()
    queue.add("a")
    queue.take(0)
    queue.park("a", 0)
    assert queue.take(5) is None and queue.parked() == {"a"}
    queue.wake()
    assert queue.take(5) == "a"


def test_an_event_during_the_try_is_not_missed() -> None:
    queue = Queue()
    queue.add("a")
    queue.take(0)
    queue.wake()
    queue.park("a", 0.1)
    assert queue.parked() == frozenset()
    assert queue.take(1.0) == "a"


def test_a_parked_pod_is_tried_again_after_a_while_even_without_an_event() -> None:
    queue = Queue()
    queue.add("a")
    queue.take(0)
    queue.park("a", 0)
    assert queue.due() == FLUSH_S
    assert queue.take(FLUSH_S) == "a"


def test_a_dropped_pod_is_forgotten_wherever_it_was() -> None:
    queue = Queue()
    for uid in ("active", "parked", "backing-off", "taken"):
        queue.add(uid)
    taken = [queue.take(0) for _ in range(4)]
    assert taken == ["active", "parked", "backing-off", "taken"]
    queue.park("parked", 0)
    queue.retry("backing-off")
    queue.retry("active")
    for each in taken:
        queue.drop(str(each))
    queue.park("taken", 0)
    queue.wake()
    assert queue.take(1000) is None and queue.due() is None
