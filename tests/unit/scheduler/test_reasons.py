"""Why a pod waits: every sentence is true."""

from tessera.model.quantities import MIB
from tessera.reasons import Code
from tessera.scheduler.options import Options
from tests.unit.scheduler.clusters import bound, engine, node, place, pod


def test_a_slice_that_holds_no_context_fits_no_node_whoever_leaves() -> None:
    cluster = engine(node("a", 24), options=Options(context_bytes=544 * MIB))
    answer = cluster.filter(pod("p", "gpu-mem=256Mi"), ["a"])
    sentence = (
        "spec.containers[0].resources.limits[tessera.io/gpu-mem]: found '256Mi'; allowed: at least 544Mi for each GPU, "
        "which a program's context takes"
    )
    assert answer.unresolvable == {"a": sentence} and answer.reason and answer.reason.text == sentence
    assert cluster.filter(pod("q", "gpu-mem=544Mi"), ["a"]).nodes == ["a"]


def test_a_share_that_holds_no_context_is_of_no_gpu_and_a_larger_gpu_has_one() -> None:
    options = Options(context_bytes=544 * MIB)
    answer = engine(node("a", 24), options=options).filter(pod("p", "gpu-core=2"), ["a"])
    assert answer.unresolvable == {"a": "GPU too small"} and answer.reason is not None
    assert answer.reason.code is Code.TOO_LARGE
    assert answer.reason.text == (
        "1 GPU: 1 too small; 2 percent of 24Gi, the largest, is less than 544Mi, which a program's context takes"
    )
    cluster = engine(node("a", 24, 80), options=options)
    assert place(cluster, pod("p", "gpu-core=2")).shares[0].uuid == "GPU-a-1"
    assert not cluster.filter(pod("q", "gpu-core=4 gpu-count=2"), ["a"]).nodes
    place(cluster, pod("full", "gpu=1", annotations={"tessera.io/gpu-uuid": "GPU-a-0"}))
    place(cluster, pod("most", "gpu-core=98"))
    reason = cluster.filter(pod("r", "gpu-core=2"), ["a"]).reason
    assert reason is not None and dict(reason.counts) == {"TooLarge": 1, "NotEnoughMemory": 1}


def test_without_a_charge_for_contexts_a_share_is_what_it_is() -> None:
    (share,) = place(engine(node("a", 24)), pod("p", "gpu-core=2")).shares
    assert share.mem_bytes == 491 * MIB


def test_gpus_on_nodes_that_other_rules_exclude_are_called_so() -> None:
    cluster = engine(node("a", 24), node("tainted", 24, 24))
    place(cluster, pod("fill", "gpu-mem=20Gi"), ["a"])
    reason = cluster.filter(pod("p", "gpu-mem=8Gi"), ["a"]).reason
    assert reason is not None
    assert dict(reason.counts) == {"NotEnoughMemory": 1, "NodeExcluded": 2}
    assert "2 on nodes that other rules of the cluster exclude" in reason.text


def test_containers_that_fit_alone_but_not_together_are_not_called_asked_for() -> None:
    cluster = engine(node("a", 24, 24))
    answer = cluster.filter(pod("p", "gpu-mem=13Gi", "gpu-mem=13Gi", "gpu-mem=13Gi"), ["a"])
    assert answer.failed == {"a": "GPU with room, but too few together on one node"}
    assert answer.reason is not None and dict(answer.reason.counts) == {"NotEnoughGpus": 2}


def test_each_node_is_told_of_the_container_that_it_cannot_hold() -> None:
    cluster = engine(node("a", 24), node("b", 40), node("c", 4))
    place(cluster, pod("fill", "gpu-mem=30Gi"), ["b"])
    place(cluster, pod("whole", "gpu=1"), ["a"])
    answer = cluster.filter(pod("p", "gpu-mem=1Gi gpu-core=10", "gpu-mem=12Gi"), ["a", "b", "c"])
    assert answer.failed == {"a": "GPU another tenant's", "b": "GPU not enough memory"}
    assert answer.unresolvable == {"c": "GPU too small"}


def test_a_node_whose_kubelet_has_promised_everything_says_so() -> None:
    cluster = engine(node("a", 24))
    cluster.observe_pod(bound(pod("odd", "gpu-mem=20Gi"), "a", None))
    answer = cluster.filter(pod("p", "gpu-mem=8Gi"), ["a"])
    assert answer.failed == {"a": "GPU on nodes with too little left for the whole pod"}


def test_a_model_that_nobody_has_is_not_called_too_large() -> None:
    wants = {"tessera.io/gpu-model": "NVIDIA H100"}
    reason = engine(node("a", 24)).filter(pod("p", "gpu-mem=4Gi", annotations=wants), ["a"]).reason
    assert reason is not None and reason.code is Code.NO_ROOM
    assert reason.text == "1 GPU: 1 of another model or UUID"


def test_the_largest_gpu_is_the_largest_of_the_accepted_ones() -> None:
    wants = {"tessera.io/gpu-model": "NVIDIA T4"}
    cluster = engine(node("a", 80), node("b", 16, model="NVIDIA T4"))
    reason = cluster.filter(pod("p", "gpu-mem=20Gi", annotations=wants), ["a", "b"]).reason
    assert reason is not None and reason.code is Code.TOO_LARGE
    assert "the largest has 16Gi to give" in reason.text


def test_a_node_that_publishes_no_gpus_has_none() -> None:
    cluster = engine(node("bare"), node("a", 4))
    answer = cluster.filter(pod("p", "gpu-mem=8Gi"), ["bare", "a"])
    assert answer.unresolvable["bare"] == "node has no GPU"


def test_a_bind_that_finds_no_room_gives_the_nodes_own_reason() -> None:
    cluster = engine(node("a", 24), node("b", 24))
    asked = pod("p", "gpu-mem=20Gi")
    cluster.filter(asked, ["a"])
    place(cluster, pod("fill", "gpu-mem=20Gi"), ["b"])
    assert str(cluster.reserve(asked.uid, "b")) == "node b: GPU not enough memory"
