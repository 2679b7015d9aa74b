"""The preempt verb: kube-scheduler's own victims, judged and completed."""

from dataclasses import replace

from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tessera.scheduler.budgets import Budget, Selector
from tessera.scheduler.options import Options
from tessera.scheduler.preemption import Leaving, case_of, viable
from tests.unit.scheduler.clusters import POOL, client, remote
from tests.unit.scheduler.preemptions import Full, node, pod


def ask(full: Full, asking: Pod, candidates: dict[str, list[str]]) -> dict[str, list[str]]:
    case = case_of(full.engine, full.holders, full.nominations, asking)
    return {node: list(found.uids) for node, found in viable(case, asking, candidates).items()}


def full() -> Full:
    cluster = Full(node("a", 24), node("b", 24))
    cluster.run("big", "gpu-mem=20Gi", "a")
    cluster.run("small", "gpu-mem=10Gi", "b")
    cluster.run("other", "gpu-mem=10Gi", "b", 50)
    return cluster


def test_only_nodes_that_would_hold_the_pod_stay() -> None:
    asked = pod("p", "gpu-mem=20Gi", priority=10)
    assert ask(full(), asked, {"a": ["uid-big"], "b": ["uid-small"]}) == {"a": ["uid-big"]}
    assert ask(full(), asked, {"b": ["uid-small", "uid-other"]}) == {"b": ["uid-small", "uid-other"]}


def test_who_else_must_leave_for_the_slice_is_added() -> None:
    asked = pod("p", "gpu-mem=20Gi", priority=100)
    assert ask(full(), asked, {"b": ["uid-small"]}) == {"b": ["uid-small", "uid-other"]}
    assert ask(full(), asked, {"b": ["uid-of-a-pod-without-slices"]}) == {
        "b": ["uid-of-a-pod-without-slices", "uid-other", "uid-small"]
    }


def test_who_is_added_counts_where_a_budget_breaks() -> None:
    cluster = Full(node("b", 24))
    for name in ("given", "more"):
        cluster.run(name, "gpu-mem=10Gi", "b", labels={"app": "web"})
    asked = pod("p", "gpu-mem=20Gi", priority=10)
    for allowed, broken in ((0, 1), (1, 1), (2, 0)):
        case = cluster.case(asked, [Budget("default", Selector(match_labels={"app": "web"}), allowed)])
        assert viable(case, asked, {"b": ["uid-given"]}) == {"b": Leaving(("uid-given", "uid-more"), broken)}
        assert viable(case, asked, {"b": ["uid-given", "uid-more"]})["b"].broken == 0, "kube-scheduler has counted them"


def test_the_question_changes_nothing() -> None:
    cluster = full()
    before, free = dict(cluster.engine.ledger.charges()), cluster.engine.ledger.free_bytes.copy()
    ask(cluster, pod("p", "gpu-mem=20Gi", priority=100), {"a": ["uid-big"], "b": ["uid-small"]})
    assert dict(cluster.engine.ledger.charges()) == before
    assert (cluster.engine.ledger.free_bytes == free).all()


def test_a_node_is_never_answered_without_victims() -> None:
    assert ask(full(), pod("p", "gpu-mem=1Gi"), {"a": []}) == {}


def test_a_pod_that_is_refused_as_it_is_pushes_nobody_out() -> None:
    for options, asked in (
        (Options(context_bytes=2 * GIB), pod("p", "gpu-mem=1Gi", priority=10)),
        (Options(context_bytes=2 * GIB), pod("p", "gpu-core=8", priority=10)),
        (Options(trust_domain="label:team"), pod("p", "gpu-mem=20Gi", priority=10)),
    ):
        assert ask(Full(node("a", 24), options=options), asked, {"a": ["uid-of-somebody"]}) == {}


def test_a_pod_without_slices_is_none_of_our_business() -> None:
    assert ask(full(), pod("plain"), {"a": ["uid-x"]}) == {"a": ["uid-x"]}


def pool() -> Full:
    """An executor fills the GPU of ``g`` for a pod that runs on ``c``; ``low`` has the one of ``h``."""
    cluster = Full(client("c"), node("g", 24), node("h", 24), options=Options(pool=POOL))
    cluster.run("low", "gpu-mem=20Gi", "h")
    [lease] = cluster.run_away("far", "gpu-mem=20Gi", on="c", priority=50)
    cluster.serve(lease, "x")
    return cluster


def test_an_executor_stands_for_its_client() -> None:
    cluster = pool()
    assert [holder.name for holder in cluster.holders.on("g")] == ["far"]
    asked = pod("p", "gpu-mem=20Gi", priority=100)
    assert ask(cluster, asked, {"g": ["uid-x"]}) == {"g": ["uid-x"]}
    assert ask(cluster, asked, {"g": ["uid-other"]}) == {"g": ["uid-other", "uid-x"]}, "no pod of another node is named"
    assert ask(cluster, pod("q", "gpu-mem=20Gi", priority=50), {"g": ["uid-other"]}) == {}


def test_a_node_where_only_a_lease_keeps_the_room_is_none_of_kube_schedulers() -> None:
    cluster = pool()
    cluster.show(replace(cluster.pods["x"], phase="Failed"))
    asked = pod("p", "gpu-mem=20Gi", priority=100)
    assert ask(cluster, asked, {"g": ["uid-other"]}) == {}
    plan = cluster.case(asked).plan("g")
    assert plan and [victim.name for victim in plan.victims] == ["far"], "we can ask its client to leave"


def test_the_budgets_of_an_executors_client_are_counted_beside_kube_schedulers() -> None:
    cluster = pool()
    cluster.change("far", labels={"app": "web"})
    asked = pod("p", "gpu-mem=20Gi", priority=100)
    case = cluster.case(asked, [Budget("default", Selector(match_labels={"app": "web"}), 0)])
    assert viable(case, asked, {"g": ["uid-x"]}) == {"g": Leaving(("uid-x",), 1)}


def test_a_pod_whose_slices_are_elsewhere_needs_no_victim_of_its_own_node_but_for_cpu() -> None:
    cluster = pool()
    asked = remote("p", "gpu-mem=20Gi")
    assert cluster.engine.away_on(asked, ["c", "g", "h"]) == []
    assert cluster.engine.away_on(remote("q", "gpu-mem=1Gi"), ["c", "g", "h"]) == ["c"]
    assert cluster.engine.away_on(pod("r", "gpu-mem=1Gi"), ["c"]) is None
