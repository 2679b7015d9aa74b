"""What a trust domain is, by the operator's setting and the namespace's labels."""

import pytest

from tessera.model.assignment import Assignment, AssignmentError, Share, decode, encode
from tessera.model.charges import Charge, Totals
from tessera.model.domains import Domains, Namespace, Rule, of_namespace, rule_of
from tessera.reasons import Code, Reason


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("cluster", Rule()),
        ("namespace", Rule(separate=True)),
        ("label:team", Rule(separate=True, label="team")),
        ("label:example.com/team", Rule(separate=True, label="example.com/team")),
    ],
)
def test_the_settings(setting: str, rule: Rule) -> None:
    assert rule_of(setting) == rule


@pytest.mark.parametrize("setting", ["", "Cluster", "label:", "label", "label:a b", "label:/team", "pod"])
def test_another_setting_is_refused_with_what_is_allowed(setting: str) -> None:
    with pytest.raises(ValueError, match=r"trust_domain: found .*; allowed: cluster, namespace, or label:KEY"):
        rule_of(setting)


def test_in_one_domain_nothing_is_asked_of_namespaces() -> None:
    assert Domains(rule_of("cluster")).of("anything") == ""
    assert Domains(rule_of("namespace")).of("a") != Domains(rule_of("namespace")).of("b")


def test_a_label_joins_namespaces_and_those_without_it_are_alone() -> None:
    domains = Domains(rule_of("label:team"))
    for name, labels in {
        "a": {"team": "x"},
        "b": {"team": "x"},
        "c": {"team": ""},
        "x": {},
        "d": {"other": "x"},
    }.items():
        assert domains.observe(Namespace(name, labels))
    assert domains.of("a") == domains.of("b")
    assert domains.of("c") == of_namespace("c")
    assert len({domains.of(name) for name in "acxd"}) == 4


def test_a_value_that_looks_like_a_namespace_is_none() -> None:
    domains = Domains(rule_of("label:namespace"))
    domains.observe(Namespace("a", {"namespace": "b"}))
    domains.observe(Namespace("b"))
    assert domains.of("a") != domains.of("b")


def test_a_namespace_that_is_not_known_is_never_guessed() -> None:
    domains = Domains(rule_of("label:team"))
    found = domains.of("new")
    assert isinstance(found, Reason) and found.code is Code.UNKNOWN_DOMAIN and "new" in found.text
    domains.observe(Namespace("new", {"team": "x"}))
    domains.forget("new")
    assert isinstance(domains.of("new"), Reason)


def test_the_assignment_carries_it_and_older_ones_read_as_before() -> None:
    one = Assignment((("c", (Share("GPU-1", 1),)),), "label/team=x")
    assert decode(encode(one)) == one
    without = Assignment(one.containers)
    assert "domain" not in encode(without) and decode(encode(without)) == without
    with pytest.raises(AssignmentError, match="found domain 7; allowed: a text"):
        decode('{"version":1,"domain":7,"containers":{"c":{"gpus":[{"uuid":"G","mem":1,"core":0}]}}}')


def test_a_placed_pod_without_one_is_of_its_namespace_alone() -> None:
    given = (("c", (Share("GPU-1", 1),)),)
    assert Charge("n", Totals(), Assignment(given), "a").domain == of_namespace("a")
    assert Charge("n", Totals(), Assignment(given, "label/team=x"), "a").domain == "label/team=x"
