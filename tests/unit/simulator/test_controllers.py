"""What the stand-ins for the workload controllers do, for one workload at a time."""

from typing import Any

from tessera.simulator.controllers.actions import Action, Create, Delete, Patch
from tessera.simulator.controllers.jobs import job
from tessera.simulator.controllers.workloads import deployment, replica_set, stateful_set

Plain = dict[str, Any]
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c"}]}}


def workload(**spec: Any) -> Plain:
    return {"metadata": {"name": "w", "namespace": "ns", "uid": "u"}, "spec": {"template": TEMPLATE, **spec}}


def pod(name: str, phase: str = "Running", *, conditions: tuple[str, ...] = ("Ready",), **meta: Any) -> Plain:
    found = [{"type": kind, "status": "True"} for kind in conditions]
    return {"metadata": {"name": name, "namespace": "ns", **meta}, "status": {"phase": phase, "conditions": found}}


def created(actions: list[Action]) -> list[Plain]:
    return [action.object for action in actions if isinstance(action, Create)]


def deleted(actions: list[Action]) -> list[str]:
    return [action.object["metadata"]["name"] for action in actions if isinstance(action, Delete)]


def status(actions: list[Action]) -> Plain:
    return {k: v for a in actions if isinstance(a, Patch) and a.subresource for k, v in a.patch["status"].items()}


def test_a_replica_set_replaces_what_has_ended_and_owns_what_it_makes() -> None:
    actions = replica_set(workload(replicas=3), [pod("a"), pod("b", "Failed"), pod("c", deletionTimestamp="now")])
    made = created(actions)
    assert len(made) == 2
    assert made[0]["metadata"]["generateName"] == "w-" and made[0]["metadata"]["labels"] == {"app": "a"}
    [owner] = made[0]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("ReplicaSet", "w", "u", True)


def test_a_replica_set_that_shrinks_lets_go_of_pods_that_are_not_ready_first() -> None:
    actions = replica_set(workload(replicas=1), [pod("a"), pod("b", "Pending", conditions=())])
    assert deleted(actions) == ["b"] and not created(actions)


def test_a_settled_replica_set_does_nothing() -> None:
    settled = workload(replicas=1) | {"status": {"replicas": 1, "readyReplicas": 1}}
    assert replica_set(settled, [pod("a")]) == []


def test_a_deployment_makes_one_replica_set_for_a_template() -> None:
    [made] = created(deployment(workload(replicas=2, selector={"matchLabels": {"app": "a"}}), []))
    assert made["spec"]["replicas"] == 2
    label = made["metadata"]["name"].removeprefix("w-")
    assert made["spec"]["selector"]["matchLabels"] == {"app": "a", "pod-template-hash": label}
    known = made | {"status": {"replicas": 2, "readyReplicas": 1}}
    again = deployment(workload(replicas=2), [known])
    assert not created(again) and status(again) == {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1}


def test_a_changed_template_makes_a_new_replica_set_and_empties_the_old_one() -> None:
    [old] = created(deployment(workload(replicas=2), []))
    changed = workload(replicas=2) | {}
    changed["spec"] = {"replicas": 2, "template": {**TEMPLATE, "spec": {"containers": [{"name": "new"}]}}}
    actions = deployment(changed, [old])
    [new] = created(actions)
    assert new["metadata"]["name"] != old["metadata"]["name"]
    assert Patch(actions[1].resource, old, {"spec": {"replicas": 0}}, "") in actions


def test_a_stateful_set_goes_in_order_and_replaces_by_name() -> None:
    spec = workload(replicas=3)
    assert [p["metadata"]["name"] for p in created(stateful_set(spec, []))] == ["w-0"]
    assert [p["metadata"]["name"] for p in created(stateful_set(spec, [pod("w-0")]))] == ["w-1"]
    assert created(stateful_set(spec, [pod("w-0", "Pending", conditions=())])) == []
    assert deleted(stateful_set(spec, [pod("w-0", "Failed", conditions=()), pod("w-7")])) == ["w-0", "w-7"]


def test_a_job_keeps_its_parallelism_until_its_completions() -> None:
    spec = {"completions": 4, "parallelism": 2}
    assert len(created(job(workload(**spec), []))) == 2
    done = [pod(name, "Succeeded") for name in "abc"]
    assert len(created(job(workload(**spec), done))) == 1
    actions = job(workload(**spec), [*done, pod("d", "Succeeded")])
    assert not created(actions) and status(actions)["conditions"][0]["type"] == "Complete"


def test_a_job_ends_after_too_many_failures_but_disruptions_are_not_its_own() -> None:
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    disrupted = pod("a", "Failed", conditions=("DisruptionTarget",))
    calm = job(workload(backoffLimit=0, podFailurePolicy=policy), [disrupted])
    assert len(created(calm)) == 1 and "conditions" not in status(calm)
    ended = job(workload(backoffLimit=0), [pod("a", "Failed"), pod("b")])
    assert deleted(ended) == ["b"] and status(ended)["conditions"][0]["type"] == "Failed"


def test_a_finished_job_is_left_alone() -> None:
    finished = workload() | {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert job(finished, []) == []
