"""What a leader writes on its lease: for the next one, and for plans that users make."""

import pytest

from tessera.scheduler.notes import LEAVING, SETTINGS, note_of, options_in, recall, settings_note
from tessera.scheduler.options import Options
from tessera.scheduler.policy.workload import Workload
from tests.unit.scheduler.clusters import POOL


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


@pytest.mark.parametrize(
    "options",
    [Options(), Options("pack", 2, trust_domain="label:tessera.io/team", context_bytes=1 << 29), Options(pool=POOL)],
)
def test_how_it_decides_is_read_as_it_was_written(options: Options) -> None:
    assert options_in(settings_note(options)) == options


@pytest.mark.parametrize(
    "written",
    [
        "",
        "pack",
        '{"placement": "pack", "enforcement": 0}',
        '{"placement": "best", "enforcement": 0, "trustDomain": "cluster"}',
        '{"placement": "pack", "enforcement": 4, "trustDomain": "cluster"}',
        '{"placement": "pack", "enforcement": 0, "trustDomain": "team"}',
    ],
)
def test_settings_that_are_not_understood_are_none(written: str) -> None:
    assert options_in({SETTINGS: written}) is None
    assert options_in({}) is None


def test_a_newer_leader_may_say_more() -> None:
    said = '{"placement": "pack", "enforcement": 1, "trustDomain": "namespace", "more": {}}'
    assert options_in({SETTINGS: said}) == Options("pack", 1, trust_domain="namespace")
