"""A list of pods that comes page by page: the same ledger as at once, and nobody promised room before its end."""

from collections.abc import Sequence
from dataclasses import replace

from tessera.kube.reflector import Listed
from tessera.model.pods import Pod
from tessera.scheduler.engine import Engine
from tessera.scheduler.policy.workload import Workload
from tessera.scheduler.watching import pod_sink
from tessera.scheduler.youngest import Youngest
from tests.unit.scheduler.clusters import bound, engine, node, place, pod
from tests.unit.scheduler.preemptions import Full


def running(*names: str) -> list[Pod]:
    """Bound pods of 4 GiB each, with what they were given."""
    cluster = engine(node("a", 24, 24))
    made = []
    for name in names:
        asked = pod(name, "gpu-mem=4Gi")
        made.append(bound(asked, "a", place(cluster, asked)))
    return made


def show(cluster: Engine, *pages: Sequence[Pod]) -> None:
    uids = frozenset(each.uid for page in pages for each in page)
    for index, page in enumerate(pages):
        pod_sink(cluster, Listed(tuple(page), uids if index == len(pages) - 1 else None))


def free(cluster: Engine) -> int:
    return int(cluster.ledger.free_bytes.sum())


def test_pages_and_the_whole_give_the_same_ledger() -> None:
    pods = running("p", "q", "r")
    paged, whole = engine(node("a", 24, 24)), engine(node("a", 24, 24))
    show(paged, pods[:2], pods[2:])
    whole.replace_pods(pods)
    assert paged.ledger.charges() == whole.ledger.charges()
    assert free(paged) == free(whole)
    assert paged.arrivals.workload.arrived == whole.arrivals.workload.arrived == 3


def test_what_is_in_no_page_goes_with_the_last_and_not_before() -> None:
    p, q, r = running("p", "q", "r")
    cluster = engine(node("a", 24, 24))
    cluster.replace_pods([p, q])
    cluster.list_pods([q], None)
    assert set(cluster.ledger.charges()) == {p.uid, q.uid}
    cluster.list_pods([r], {q.uid, r.uid})
    assert set(cluster.ledger.charges()) == {q.uid, r.uid}


def test_a_reservation_outlives_pages_that_are_older_than_it() -> None:
    cluster = engine(node("a", 24))
    cluster.filter(pod("late", "gpu-mem=4Gi"), ["a"])
    cluster.reserve("uid-late", "a")
    show(cluster, [pod("late", "gpu-mem=4Gi")], [])
    show(cluster, [])
    assert "uid-late" in cluster.ledger.charges()


def test_a_second_list_teaches_what_another_leader_has_bound_meanwhile() -> None:
    cluster = engine(node("a", 24, 24))
    show(cluster, running("p"))
    for _ in range(2):
        show(cluster, running("p", "q"))
    assert cluster.arrivals.workload.arrived == 2


def test_the_youngest_teach_in_the_order_of_their_start() -> None:
    pods = running("p", "q", "r", "s")
    youngest = Youngest(2)
    for each, started in zip(pods, ("2026-01-04", "2026-01-01", "2026-01-03", "2026-01-02"), strict=True):
        youngest.saw(replace(each, started=started))
    youngest.saw(pod("waits", "gpu-mem=4Gi"))
    youngest.saw(replace(pods[0], uid="ended", phase="Succeeded", started="2026-01-05"))
    heard = Workload()
    youngest.teach(heard)
    assert heard.arrived == 2


def test_holders_follow_the_pages() -> None:
    full = Full(node("a", 24, 24))
    p, q, r = running("p", "q", "r")
    for uids, page in ((None, (p, q)), (frozenset({p.uid, q.uid}), ()), (frozenset({q.uid, r.uid}), (q, r))):
        change = Listed(page, uids)
        pod_sink(full.engine, change)
        full.holders.observe(change)
    assert {holder.uid for holder in full.holders.on("a")} == {q.uid, r.uid}


def test_room_is_kept_for_a_nominated_pod_only_after_the_last_page() -> None:
    """Before that the node's other pods may not be charged, and it would be held what is taken."""
    full = Full(node("a", 8))
    waiting = replace(pod("waiting", "gpu-mem=4Gi"), nominated="a")
    taken = [bound(each, "a", place(engine(node("a", 8)), each)) for each in [pod("other", "gpu-mem=8Gi")]]
    for change in (Listed((waiting,)), Listed(tuple(taken), frozenset({waiting.uid, taken[0].uid}))):
        pod_sink(full.engine, change)
        full.nominations.observe(change)
        full.nominations.settle()
        assert waiting.uid not in full.engine.ledger.charges()
    assert [claim.node for claim in full.nominations.claims()] == ["a"]


def test_a_nominated_pod_that_the_end_of_the_list_does_not_name_is_passed_over() -> None:
    full = Full(node("a", 8))
    waiting = replace(pod("waiting", "gpu-mem=4Gi"), nominated="a")
    full.nominations.observe(Listed((waiting,)))
    full.nominations.observe(Listed((), frozenset()))
    assert full.nominations.claims() == []
