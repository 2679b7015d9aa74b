"""Preemption: on, with the rights that it needs and no more, unless the operator says otherwise."""

from tests.chart.chart import Rendered, refusal, render
from tests.chart.test_rescue import environment


def rights(found: Rendered) -> set[str]:
    rules = found.one("ClusterRole", "tessera-scheduler")["rules"]
    return {f"{verb} {resource}" for rule in rules for verb in rule["verbs"] for resource in rule["resources"]}


def test_it_may_delete_pods_and_say_why() -> None:
    found = render()
    assert environment(found)["TESSERA_PREEMPTION"] == "true"
    assert {"delete pods", "patch pods/status", "list poddisruptionbudgets"} <= rights(found)


def test_switched_off_it_has_no_right_to_delete_anything() -> None:
    found = render({"scheduler": {"preemption": False}})
    assert environment(found)["TESSERA_PREEMPTION"] == "false"
    assert not {right for right in rights(found) if right.startswith("delete ") or "status" in right}
    assert "list poddisruptionbudgets" not in rights(found)


def test_another_value_is_refused() -> None:
    assert "preemption" in refusal({"scheduler": {"preemption": "sometimes"}})
