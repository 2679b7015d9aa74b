"""Moves of the leader's own: off, without the right to evict, unless the operator says otherwise."""

import pytest

from tests.chart.chart import Json, Rendered, refusal, render


def environment(found: Rendered) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in found.containers()["scheduler"]["env"]}


def may_evict(found: Rendered) -> bool:
    rules = found.one("ClusterRole", "tessera-scheduler")["rules"]
    return any("pods/eviction" in rule["resources"] for rule in rules)


def test_nobody_is_moved_by_default() -> None:
    found = render()
    assert environment(found)["TESSERA_RESCUE_MOVES"] == "0" and not may_evict(found)


def test_the_operator_allows_moves_and_only_then_there_is_the_right_to_evict() -> None:
    found = render({"scheduler.rescue.enabled": True, "scheduler.rescue.maxMoves": 2})
    given = environment(found)
    assert (given["TESSERA_RESCUE_MOVES"], given["TESSERA_RESCUE_AFTER_S"]) == ("2", "120") and may_evict(found)


@pytest.mark.parametrize(
    "values", [{"scheduler.rescue.maxMoves": 9}, {"scheduler.rescue.afterSeconds": 0}, {"scheduler.rescue.often": 1}]
)
def test_values_that_make_no_sense_are_refused(values: Json) -> None:
    assert "rescue" in refusal(values)
