"""Lists of nodes are read once, and answers are what an ordinary encoder would write."""

import msgspec
import numpy as np
import pytest

from tessera.scheduler.offers import Offers, offer_of
from tests.unit.scheduler.clusters import engine, node, pod


def test_what_filter_leaves_is_known_when_prioritize_asks() -> None:
    ledger, offers = engine(node("a", 24), node("b", 24), node("c", 24)).ledger, Offers()
    asked = offers.of(ledger, b'["c","a","b"]')
    left = offers.part(ledger, asked, np.array([True, False, True]))
    assert left == b'["c","b"]'
    assert offers.of(ledger, left) is offers.of(ledger, left)
    assert offers.of(ledger, left).rows.tolist() == [ledger.row("c"), ledger.row("b")]


def test_a_list_is_forgotten_when_a_node_comes_or_goes() -> None:
    cluster, offers = engine(node("a", 24), node("b", 24)), Offers()
    assert offers.of(cluster.ledger, b'["b","new"]').rows.tolist() == [cluster.ledger.row("b"), -1]
    cluster.observe_node(node("new", 24))
    assert offers.of(cluster.ledger, b'["b","new"]').rows.tolist() == [
        cluster.ledger.row("b"),
        cluster.ledger.row("new"),
    ]


def test_all_is_echoed_and_none_is_an_empty_list() -> None:
    ledger, offers = engine(node("a", 24)).ledger, Offers()
    asked = offers.of(ledger, b'[ "a", "bare" ]')
    assert offers.part(ledger, asked, np.array([True, True])) == b'[ "a", "bare" ]'
    assert offers.part(ledger, asked, np.array([False, True])) == b'["bare"]'
    assert offers.part(ledger, asked, np.array([False, False])) == b"[]"


@pytest.mark.parametrize("names", [[], ["node-10"], ["b", "node-10", "c"], ["c", "bare", "b"]])
def test_scores_stand_beside_their_nodes(names: list[str]) -> None:
    ledger, offers = engine(node("b", 24), node("c", 24), node("node-10", 24)).ledger, Offers()
    for first in range(11):
        scores = np.array([first, 10, 0][: len(names)], np.int8)
        told = msgspec.json.decode(offers.scored(ledger, offer_of(ledger, names), scores))
        assert told == [{"Host": name, "Score": score} for name, score in zip(names, scores.tolist(), strict=True)]


def test_no_list_of_names_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        Offers().of(engine(node("a", 24)).ledger, b'{"a": 1}')


def test_bind_takes_what_was_held_unless_the_nodes_gpus_have_changed() -> None:
    cluster = engine(node("a", 24, 24), node("b", 24))
    asked = pod("p", "gpu-mem=4Gi")
    cluster.prioritize(asked, ["a"])
    held = cluster.ledger.charges()["uid-p"].assignment
    assert held is not None
    gone = next(index for index in range(2) if f"GPU-a-{index}" == held.shares[0].uuid)
    cluster.observe_node(node("a", 24, 24, sick=(gone,)))
    reserved = cluster.reserve("uid-p", "a")
    assert isinstance(reserved, tuple) and reserved[1].shares[0].uuid == f"GPU-a-{1 - gone}"


def test_reasons_are_told_only_where_no_node_is_left() -> None:
    cluster = engine(node("a", 24), node("small", 4))
    assert cluster.filter(pod("p", "gpu-mem=8Gi"), ["a", "small"]).failed == {}
    assert cluster.filter(pod("q", "gpu-mem=8Gi"), ["small"]).unresolvable == {"small": "GPU too small"}


def test_an_only_node_is_answered_and_not_remembered() -> None:
    ledger, offers = engine(node("a", 24), node("b", 24)).ledger, Offers()
    asked = offers.of(ledger, b'["b","a"]')
    assert offers.part(ledger, asked, np.array([False, True])) == b'["a"]'
    assert offers.of(ledger, b'["b","a"]') is asked
