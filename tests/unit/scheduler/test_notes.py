"""What one leader leaves to the next."""

import pytest

from tessera.scheduler.notes import LEAVING, note_of, recall
from tessera.scheduler.policy.workload import Workload


def test_the_next_leader_knows_how_many_leave() -> None:
    first, second = Workload(), Workload()
    for _ in range(1_500):
        first.left()
    recall(second, note_of(first))
    assert second.leaving == pytest.approx(first.leaving, abs=1e-3) and first.leaving > 0.5


@pytest.mark.parametrize("annotations", [{}, {LEAVING: "much"}, {LEAVING: "nan"}, {LEAVING: "-1"}, {LEAVING: "7"}])
def test_what_cannot_be_read_changes_nothing(annotations: dict[str, str]) -> None:
    workload = Workload()
    workload.left()
    before = workload.leaving
    recall(workload, annotations)
    assert workload.leaving == before
