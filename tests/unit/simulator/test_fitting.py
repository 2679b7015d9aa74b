"""The filters of kube-scheduler that the stand-in has."""

from typing import Any

import pytest

from tessera.simulator.kube_scheduler.fitting import (
    amounts,
    counted_requests,
    explain,
    refusal,
    requests_of,
    sum_requests,
    uses_extender,
)

Plain = dict[str, Any]


def pod(limits: Plain | None = None, **spec: Any) -> Plain:
    container = {"name": "main", "resources": {"limits": limits or {}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}


def node(allocatable: Plain | None = None, *, ready: bool = True, **spec: Any) -> Plain:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"allocatable": {"pods": "10", **(allocatable or {})}, "conditions": conditions}
    return {"metadata": {"name": "n", "labels": {"zone": "a"}}, "spec": spec, "status": status}


def why(asked: Plain, where: Plain) -> str:
    return refusal(asked, where, {}, counted_requests(asked))


def test_what_the_extender_manages_is_not_counted_but_the_slot_is() -> None:
    asked = pod({"tessera.io/gpu-mem": "4Gi", "tessera.io/slice": "1", "cpu": "500m"})
    assert counted_requests(asked) == amounts({"tessera.io/slice": "1", "cpu": "500m", "pods": "1"})
    assert why(asked, node({"cpu": "1"})) == "Insufficient tessera.io/slice"
    assert why(asked, node({"cpu": "1", "tessera.io/slice": "64"})) == ""


def test_containers_are_added_and_init_containers_count_at_their_peak() -> None:
    asked = pod({"cpu": "1"}, initContainers=[
        {"name": "i", "resources": {"limits": {"cpu": "3"}}},
        {"name": "s", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}},
    ])  # fmt: skip
    assert requests_of(asked) == amounts({"cpu": "3", "pods": "1"})
    assert sum_requests([asked, pod({"cpu": "1"})])["cpu"] == 4


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (node(ready=False), "node(s) had untolerated taint(s) {node.kubernetes.io/not-ready: }"),
        (node(unschedulable=True), "node(s) had untolerated taint(s) {node.kubernetes.io/unschedulable: }"),
        (node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]), "{gpu: yes}"),
        (node(taints=[{"key": "gpu", "effect": "PreferNoSchedule"}]), ""),
        (node({"pods": "0"}), "Too many pods"),
    ],
)
def test_nodes_that_do_not_suit_say_why(where: Plain, said: str) -> None:
    found = why(pod(), where)
    assert said in found if said else found == ""


def test_tolerations_and_selectors_are_honoured() -> None:
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert why(pod(tolerations=[{"key": "gpu", "operator": "Exists"}]), tainted) == ""
    assert why(pod(tolerations=[{"key": "gpu", "value": "no"}]), tainted) != ""
    assert why(pod(nodeSelector={"zone": "b"}), node()) == "node(s) didn't match Pod's node affinity/selector"


def test_only_pods_of_the_profile_that_ask_for_a_slice_meet_the_extender() -> None:
    limits = {"tessera.io/slice": "1"}
    assert uses_extender(pod(limits, schedulerName="tessera"), "tessera")
    assert not uses_extender(pod(limits, schedulerName="default-scheduler"), "tessera")
    assert not uses_extender(pod({"cpu": "1"}, schedulerName="tessera"), "tessera")


def test_the_message_counts_nodes_for_each_reason() -> None:
    text = explain(["no GPU", "12 GPUs: 12 too small", "no GPU"])
    assert text == "0/3 nodes are available: 1 12 GPUs: 12 too small, 2 no GPU."
