"""What stands against a GPU, and for how long."""

from tessera.model.gpus import GpuCondition
from tessera.node_agent.conditions import MAX_MESSAGE, MOST, Conditions
from tessera.node_agent.enforcement.port import Incident

A, B = "GPU-a", "GPU-b"
CHANGED = Incident(A, "SliceFilesChanged", "its files were changed", ("s",), (B,))
STANDS = (GpuCondition("SliceFilesChanged", "its files were changed"),)


def test_it_stands_on_each_gpu_at_once_and_goes_after_three_rounds_in_a_row_without():
    conditions = Conditions(3)
    conditions.round("limits", [CHANGED])
    for _ in range(2):
        conditions.round("limits", [])
        assert conditions.of(A) == conditions.of(B) == STANDS
    conditions.round("limits", [CHANGED])
    for _ in range(2):
        conditions.round("limits", [])
    assert conditions.of(A) == STANDS
    conditions.round("limits", [])
    assert conditions.of(A) == conditions.of(B) == ()


def test_rounds_of_another_source_do_not_count():
    conditions = Conditions(1)
    conditions.round("limits", [CHANGED])
    conditions.round("limiter", [])
    assert conditions.of(A) == STANDS
    conditions.round("limits", [])
    assert conditions.of(A) == ()


def test_of_a_gpu_in_trouble_it_stays_and_its_rounds_begin_when_that_is_over():
    conditions = Conditions(2)
    conditions.round("limiter", [CHANGED])
    for _ in range(9):
        conditions.round("limiter", [], {A})
    assert (conditions.of(A), conditions.of(B)) == (STANDS, ())
    conditions.round("limiter", [])
    assert conditions.of(A) == STANDS
    conditions.round("limiter", [])
    assert conditions.of(A) == ()


def test_good_news_are_none():
    conditions = Conditions(3)
    conditions.round("limiter", [Incident(A, "MpsRecovered", "it serves again", kind="Normal")])
    assert conditions.of(A) == ()


def test_several_of_one_type_are_one_and_what_is_published_has_a_most():
    conditions = Conditions(3)
    long = [Incident(A, "B", "x" * 1000), Incident(A, "B", "y")]
    conditions.round("limits", [*long, *(Incident(A, f"C{n:02}", "z") for n in range(2 * MOST))])
    first, *others = conditions.of(A)
    assert (first.type, len(first.message), len(others)) == ("B", MAX_MESSAGE, MOST - 1)
    assert first.message.endswith("x (and 1 more)")
