"""Who counts as arrived and as left: pods with GPUs, each once, whoever bound them."""

from dataclasses import replace

from tessera.model.demands import demand_of
from tessera.model.hosts import HostNeed
from tessera.model.pods import Pod
from tessera.model.quantities import GIB
from tests.unit.scheduler.clusters import bound, engine, node, place, pod


def passing(cluster, uid: str) -> None:
    """A pod without GPUs that another scheduler has bound comes and goes."""
    runs = Pod("default", uid, uid, (), {}, "a", "Running", host=HostNeed(100, GIB))
    cluster.observe_pod(runs)
    cluster.observe_pod(replace(runs, phase="Succeeded"))
    cluster.forget_pod(uid)


def test_pods_without_gpus_that_come_and_go_are_no_steady_state() -> None:
    cluster = engine(node("a", 24, 24))
    for number in range(3_000):
        passing(cluster, f"job-{number}")
    assert cluster.arrivals.workload.leaving == 0


def test_a_pod_that_was_never_bound_has_not_left() -> None:
    cluster = engine(node("a", 24, 24))
    asked = pod("p", "gpu-mem=400Gi")
    cluster.filter(asked, ["a"])
    cluster.forget_pod(asked.uid)
    assert cluster.arrivals.workload.arrived == 1 and cluster.arrivals.workload.leaving == 0


def test_a_pod_leaves_once_and_a_drained_cluster_learns_anew_that_it_fills() -> None:
    cluster = engine(node("a", 24, 24))
    for number in range(5_000):
        asked = pod(f"p-{number}", "gpu-mem=4Gi")
        runs = bound(asked, "a", place(cluster, asked))
        cluster.observe_pod(runs)
        cluster.observe_pod(replace(runs, phase="Succeeded"))
        cluster.forget_pod(runs.uid)
    workload = cluster.arrivals.workload
    assert workload.arrived == 5_000 and 0.9 < workload.leaving < 1, "one leaves for each that arrives"


def test_what_another_leader_bound_arrives_when_it_is_seen_and_may_leave() -> None:
    cluster, other = engine(node("a", 24, 24)), engine(node("a", 24, 24))
    cluster.replace_pods([])
    asked = pod("p", "gpu-mem=4Gi")
    runs = bound(asked, "a", place(other, asked))
    for _ in range(3):
        cluster.observe_pod(runs)
    assert cluster.arrivals.workload.arrived == 1
    cluster.forget_pod(runs.uid)
    assert cluster.arrivals.workload.leaving > 0


def test_it_never_forgets_more_than_a_quarter_beyond_the_steady_state() -> None:
    workload = engine(node("a", 24, 24)).arrivals.workload
    for _ in range(10_000):
        workload.left()
    asked = pod("p", "gpu-mem=4Gi")
    for _ in range(1_000):
        workload.saw(asked.host, demand_of(asked))
    assert workload.leaving < 0.8
