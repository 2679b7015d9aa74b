"""Inflation on traces made by hand: what is read at which checkpoint, and what counts as a failure."""

from fractions import Fraction

from tessera.simulator.replay.cluster import Cluster
from tessera.simulator.replay.inflate import Course, inflate
from tessera.simulator.replay.openb import Shape, TraceNode

WHOLE, TWO = Shape(1000, 1024, 1, 1000), Shape(1000, 1024, 2, 1000)


def gpus(thousandths: int) -> Shape:
    return Shape(1000, 1024, 1, thousandths)


def test_a_checkpoint_is_the_mean_over_the_arrivals_that_round_to_it() -> None:
    course = Course(100_000, Fraction(13, 10))
    for shape, allocated in ((Shape(1, 1, 79, 1000), 79_000), (gpus(490), 79_490), (gpus(20), 70_000)):
        course.record(shape, allocated, placed=True)  # 79 %, 79.49 %, 79.51 %
    course.record(gpus(980), 60_000, placed=True)  # 80.49 %
    course.record(gpus(20), 50_000, placed=True)  # 80.51 % is 81 %
    assert course.allocated_percent()["80"] == 65.0


def test_a_checkpoint_that_one_pod_jumps_over_shows_what_stood_before_it() -> None:
    course = Course(10_000, Fraction(13, 10))
    course.record(Shape(1, 1, 7, 1000), 7_000, placed=True)
    course.record(Shape(1, 1, 6, 1000), 7_000, placed=False)
    assert course.allocated_percent() == {"80": 70.0, "95": 70.0, "100": 70.0, "130": 70.0}


def test_a_checkpoint_beyond_the_factor_is_none() -> None:
    course = Course(10_000, Fraction(95, 100))
    course.record(Shape(1, 1, 9, 1000), 9_000, placed=True)
    assert course.allocated_percent() == {"80": 0.0, "95": 90.0, "100": None, "130": None}


def test_failures_count_until_all_gpus_have_been_asked_for() -> None:
    cluster = Cluster([TraceNode("n1", 8000, 8192, 2, "T4")], "pack", 0)
    course = inflate(cluster, [WHOLE, gpus(500), gpus(600), gpus(600), WHOLE], Fraction(2), lambda _: None)
    # 50 %, 75 %, 105 % (0.6 fits nowhere), 135 %, 185 %
    assert (course.failed_at_100, course.first_failure_percent) == (0, 105.0)
    assert course.arrived_milli == 3_700 and cluster.allocated_milli == 1_500
    small = Cluster([TraceNode("n1", 500, 8192, 8, "T4")], "pack", 0)
    course = inflate(small, [WHOLE] * 10, Fraction(2), lambda _: None)
    assert (course.failed_at_100, course.first_failure_percent) == (8, 12.5)


def test_progress_hears_every_arrival() -> None:
    heard: list[int] = []
    inflate(Cluster([TraceNode("n1", 8000, 8192, 2, "T4")], "pack", 0), [WHOLE] * 3, Fraction(2), heard.append)
    assert heard == [1, 2, 3]
