"""The veto of the preempt verb."""

from tessera.model.quantities import GIB
from tessera.scheduler.preemption import viable
from tests.unit.scheduler.clusters import engine, node, place, pod


def test_only_nodes_that_would_hold_the_pod_without_the_victims_stay() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    place(cluster, pod("big", "gpu-mem=20Gi"), ["a"])
    place(cluster, pod("small", "gpu-mem=10Gi"), ["b"])
    place(cluster, pod("other", "gpu-mem=10Gi"), ["b"])
    asked = pod("p", "gpu-mem=20Gi", priority=10)
    victims = {"a": ["uid-big"], "b": ["uid-small"]}
    assert viable(cluster, asked, victims) == ["a"]
    assert viable(cluster, asked, {"b": ["uid-small", "uid-other"]}) == ["b"]


def test_the_question_changes_nothing() -> None:
    cluster = engine(node("a", 24))
    place(cluster, pod("big", "gpu-mem=20Gi"))
    before = dict(cluster.ledger.charges())
    viable(cluster, pod("p", "gpu-mem=20Gi"), {"a": ["uid-big"]})
    assert dict(cluster.ledger.charges()) == before
    assert int(cluster.ledger.free_bytes.sum()) == 4 * GIB


def test_a_node_is_never_answered_without_victims() -> None:
    assert viable(engine(node("a", 24)), pod("p", "gpu-mem=1Gi"), {"a": []}) == []


def test_a_pod_without_slices_is_none_of_our_business() -> None:
    assert viable(engine(node("a", 24)), pod("plain"), {"a": ["uid-x"]}) == ["a"]
