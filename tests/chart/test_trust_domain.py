"""Trust domains: one for all by default; namespaces are read only where a label decides."""

import pytest

from tests.chart.chart import refusal, render
from tests.chart.test_preemption import rights
from tests.chart.test_rescue import environment

READS = {"get namespaces", "list namespaces", "watch namespaces"}


@pytest.mark.parametrize(
    ("value", "read"), [("cluster", set()), ("namespace", set()), ("label:example.com/team", READS)]
)
def test_the_operator_chooses_and_the_scheduler_may_read_no_more_than_it_needs(value: str, read: set[str]) -> None:
    found = render({"trustDomain": value})
    assert environment(found)["TESSERA_TRUST_DOMAIN"] == value
    assert {right for right in rights(found) if right.endswith(" namespaces")} == read


def test_by_default_all_share() -> None:
    assert environment(render())["TESSERA_TRUST_DOMAIN"] == "cluster"


@pytest.mark.parametrize("value", ["", "pod", "label:", "label:a b", 3])
def test_another_value_is_refused(value: object) -> None:
    assert "trustDomain" in refusal({"trustDomain": value})
