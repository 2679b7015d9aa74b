"""Admission on a real API server: the chart's webhook and policies as rendered, every kind of client and workload."""

from __future__ import annotations

import copy
import random
import shutil

import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.convert import pod_of
from tessera.model.assignment import Share
from tessera.model.demands import demand_of
from tessera.model.gpu_leases import Client, GpuLease, Slice
from tessera.reasons import Reason
from tessera.remote.controller.pods import Options as PoolOptions
from tessera.remote.controller.pods import executor_pod
from tessera.remote.controller.records import Record
from tessera.remote.controller.steps import Create
from tessera.scheduler.webhook.patches import applied
from tessera.scheduler.webhook.rewrite import Options, rewrite
from tests.e2e import programs
from tests.e2e.admission import CHART, SYSTEM, VALUES, Admission, refusal_of
from tests.e2e.admission_objects import (
    BAD,
    CONTEXT_BYTES,
    CORE,
    GOOD,
    GPU,
    KINDS,
    MEM,
    SLICE,
    SLOT,
    container,
    generated,
    limits_of,
    pod,
    spec_of,
    workload,
)
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until

pytestmark = pytest.mark.e2e
FAMILIES = ("pods", "templates", "cronjobs", "podtemplates")
WARNING = "use this name in files kept in Git: removing the short key later does not remove the request"


@pytest.mark.parametrize("name", GOOD)
def test_well_formed_pods_are_stored(admission: Admission, name: str) -> None:
    body = copy.deepcopy(GOOD[name])
    if name == "qualified, other scheduler's default":
        body["spec"]["schedulerName"] = "default-scheduler"
    stored = admission.dry(body)
    asked = [
        c
        for c in spec_of(stored)["containers"]
        if any(k.startswith("tessera.io/") for k in c["resources"].get("limits", {}))
    ]
    assert all(c["resources"]["limits"][SLICE] == "1" for c in asked)
    assert stored["spec"]["schedulerName"] == ("tessera" if asked else "default-scheduler")
    tolerated = any(t["key"] == GPU for t in stored["spec"]["tolerations"] if "key" in t)
    assert tolerated == bool(asked)


@pytest.mark.parametrize("name", BAD)
def test_malformed_pods_are_refused_with_one_sentence(admission: Admission, name: str) -> None:
    body, sentence = BAD[name]
    assert sentence in admission.refusal(body)


def test_a_pod_level_key_is_warned_of_in_our_words(admission: Admission) -> None:
    admission.api.warnings.clear()
    assert admission.refusal(BAD["pod level"][0])
    assert "found '1Gi'; allowed: slices in containers only" in " ".join(admission.api.warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_every_workload_kind_takes_the_short_form_and_refuses_the_malformed(admission: Admission, kind: str) -> None:
    stored = admission.dry(workload(kind, {"gpu-mem": "4Gi", "gpu-core": 20}))
    assert limits_of(stored) == {MEM: "4Gi", CORE: "20", **SLOT}
    assert spec_of(stored)["schedulerName"] == "tessera"
    refused = admission.refusal(workload(kind, {"gpu-core": 101}))
    assert ".spec.containers[main].resources.limits[tessera.io/gpu-core]: found '101'; allowed" in refused
    assert limits_of(admission.dry(workload(kind, {MEM: "4Gi"}))) == {MEM: "4Gi", **SLOT}
    assert not limits_of(admission.dry(workload(kind, {})))


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("kind", ["Pod", *KINDS])
def test_apply_twice_changed_and_removed(admission: Admission, kind: str, server_side: bool) -> None:
    name = f"again-{kind.lower()}-{'ssa' if server_side else 'csa'}"
    fixed = kind in ("Pod", "Job")

    def body(limits: Json) -> Json:
        return pod(limits, name=name) if kind == "Pod" else workload(kind, limits, name)

    def apply(limits: Json, check: bool = True) -> str:
        return admission.kubectl.apply(body(limits), server_side=server_side, check=check)

    version = body({})["apiVersion"]
    assert WARNING in apply({"gpu-mem": "4Gi"})
    first = admission.api.get(kind, name, "default", version)
    assert limits_of(first) == {MEM: "4Gi", **SLOT}
    assert WARNING in apply({"gpu-mem": "4Gi"})
    again = admission.api.get(kind, name, "default", version)
    assert spec_of(again) == spec_of(first) and again["metadata"].get("generation") == first["metadata"].get(
        "generation"
    )
    if fixed:
        assert "8Gi" in apply({"gpu-mem": "8Gi"}, check=False), "an immutable request is refused by the API server"
    else:
        apply({"gpu-mem": "8Gi"})
        assert limits_of(admission.api.get(kind, name, "default", version)) == {MEM: "8Gi", **SLOT}
        apply({})
        left = limits_of(admission.api.get(kind, name, "default", version))
        assert left == {MEM: "8Gi", **SLOT}, "removing the short key does not remove the request"
    admission.api.delete(kind, name, "default", version)


def test_removing_the_qualified_name_removes_the_slot_too(admission: Admission) -> None:
    for server_side in (False, True):
        name = f"qualified-{server_side}".lower()
        admission.kubectl.apply(workload("Deployment", {MEM: "4Gi"}, name), server_side=server_side)
        admission.kubectl.apply(workload("Deployment", {}, name), server_side=server_side)
        stored = admission.api.get("Deployment", name, "default", "apps/v1")
        assert not spec_of(stored)["containers"][0]["resources"].get("limits")


def test_a_deployment_that_gets_a_slice_later_keeps_one_replica_set_a_revision(admission: Admission) -> None:
    first, second = workload("Deployment", {}, "later"), workload("Deployment", {"gpu-mem": "4Gi"}, "later")
    first["spec"]["replicas"] = second["spec"]["replicas"] = 1
    admission.kubectl.apply(first)
    admission.kubectl.apply(second)

    def pods() -> list[Json]:
        found = admission.api.items("Pod", "default", labelSelector="app=later")
        return [p for p in found if SLICE in limits_of(p) and "deletionTimestamp" not in p["metadata"]]

    wait_until("a pod with a slice", pods, 30)
    (made,) = pods()
    assert made["spec"]["schedulerName"] == "tessera"
    admission.kubectl.run("annotate", "deployment/later", "note=x")
    admission.api.wait("Deployment", "later", lambda d: d["status"].get("observedGeneration") ==
                       d["metadata"]["generation"], namespace="default", version="apps/v1")  # fmt: skip
    sets = admission.api.items("ReplicaSet", "default", "apps/v1", labelSelector="app=later")
    assert len(sets) == 2, "the controller knows its template again"


def test_a_stored_request_may_be_scaled_and_edited_when_the_webhook_has_nothing_to_do(admission: Admission) -> None:
    admission.kubectl.apply(workload("Deployment", {"gpu-mem": "4Gi"}, "scaled"))
    admission.kubectl.run("scale", "deployment/scaled", "--replicas=1")
    admission.kubectl.run("set", "image", "deployment/scaled", "main=other")
    stored = admission.api.get("Deployment", "scaled", "default", "apps/v1")
    assert limits_of(stored) == {MEM: "4Gi", **SLOT} and spec_of(stored)["containers"][0]["image"] == "other"


def test_a_hundred_containers_stay_within_the_cost_of_the_rules(admission: Admission) -> None:
    env = [{"name": f"VARIABLE_{i}", "value": "x" * 20} for i in range(20)]
    more = [container(f"c{i:02}", env=env, resources={"limits": {"gpu-mem": "1Gi", "gpu-core": 10}}) for i in range(99)]
    big = pod({"gpu-mem": "1Gi"}, more=more, container={"env": env})
    assert admission.refusal(big) == ""
    more[98]["resources"]["limits"]["gpu-core"] = 101
    assert "spec.containers[c98]" in admission.refusal(big)


def test_the_policy_refuses_exactly_what_the_scheduler_would(admission: Admission) -> None:
    """The rules are written twice, in CEL and in the model: on generated requests both must decide alike."""
    draw = random.Random(20261122)
    for _ in range(400):
        body = generated(draw)
        rewritten = applied(body, rewrite(body, "CREATE", Options()).patch)
        demand = demand_of(pod_of(msgspec.convert(rewritten, wire.Pod)), CONTEXT_BYTES)
        refused = admission.refusal(body)
        assert bool(refused) == isinstance(demand, Reason), (body, refused, demand)


def test_an_ephemeral_container_may_not_set_reserved_variables(admission: Admission) -> None:
    admission.api.create(pod({"gpu-mem": "1Gi"}, name="debugged"))

    def add(fields: Json) -> str:
        body = {"spec": {"ephemeralContainers": [container("debug", **fields)]}}
        return refusal_of(lambda: admission.api.patch("Pod", "debugged", body, namespace="default",
                                                    sub="ephemeralcontainers", how="strategic"))  # fmt: skip

    refused = add({"env": [{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]})
    assert "spec.ephemeralContainers[debug].env: found CUDA_VISIBLE_DEVICES" in refused
    assert "privileged: found true" in add({"securityContext": {"privileged": True}})
    assert "cannot be set for an Ephemeral Container" in add({"resources": {"limits": {MEM: "1Gi"}}})
    assert add({}) == ""


def test_nobody_forges_an_assignment(admission: Admission) -> None:
    api = admission.api
    scheduler = admission.cluster.as_user(api.service_account_token("tessera-scheduler", SYSTEM))
    notes = {"tessera.io/assignment": '{"version":1}', "state.tessera.io/x": "1"}
    api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gone"}})
    for name in ("forged", "honest"):
        api.create(pod({"gpu-mem": "1Gi"}, name=name, tolerations=[{"operator": "Exists"}]))

    def bind(by: Api, path: str, name: str, annotations: Json) -> str:
        target = {"apiVersion": "v1", "kind": "Node", "name": "gone"}
        metadata = {"name": name, "namespace": "default", "annotations": annotations}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        return refusal_of(lambda: by.request("POST", f"/api/v1/namespaces/default/{path}", binding))

    for path in ("pods/forged/binding", "bindings"):
        assert "found a value from admin; allowed: only what the scheduler writes" in bind(api, path, "forged", notes)
    assert bind(scheduler, "pods/honest/binding", "honest", notes) == ""
    bound = api.get("Pod", "honest", "default")
    assert bound["spec"]["nodeName"] == "gone" and bound["metadata"]["annotations"].items() >= notes.items()

    for by in (api, scheduler):
        for sub in ("", "status"):
            for change in (
                {"tessera.io/assignment": "x"},
                {"tessera.io/assignment": None},
                {"state.tessera.io/y": "1"},
            ):
                body = {"metadata": {"annotations": change}}
                refused = refusal_of(
                    lambda by=by, body=body, sub=sub: by.patch("Pod", "honest", body, namespace="default", sub=sub)
                )
                assert "allowed: " in refused or "cannot patch resource" in refused, (sub, change)
    labelled = {"metadata": {"labels": {"a": "b"}, "annotations": {"mine": "1"}}}
    assert api.patch("Pod", "honest", labelled, namespace="default")["metadata"]["annotations"]["mine"] == "1"


def test_only_the_pools_controller_says_which_lease_a_pod_serves(admission: Admission) -> None:
    api, name = admission.api, "tessera-pool-controller"
    account = {"name": "tessera-pool-executor", "namespace": "default"}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}
    api.create({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "controller-edits"}, "roleRef": role, "subjects": [subject]})  # fmt: skip
    controller = admission.cluster.as_user(api.service_account_token(name, SYSTEM))

    def executor(namespace: str, **notes: str) -> Json:
        notes |= {"state.tessera.io/lease": "default/l"}
        body = pod({"gpu-mem": "4Gi"}, name="x", notes=notes, serviceAccountName=account["name"])
        body["metadata"]["namespace"] = namespace
        return body

    def refused(by: Api, body: Json) -> str:
        return admission.refusal(body, by)

    wait_until("the controller's rights", lambda: "cannot create" not in refused(controller, executor(SYSTEM)))
    assert refused(controller, executor(SYSTEM)) == ""
    body = executor(SYSTEM)
    body["spec"]["serviceAccountName"] = "default"
    assert "state.tessera.io/lease]: found a value from admin" in refused(api, body)
    assert f"found a value from system:serviceaccount:{SYSTEM}:{name}" in refused(controller, executor("default"))
    given = executor(SYSTEM, **{"tessera.io/assignment": "{}"})
    assert "metadata.annotations[tessera.io/assignment]: found a value" in refused(controller, given)
    for spec, sentence in (
        ({"serviceAccountName": "tessera-scheduler"}, "spec.serviceAccountName: found another"),
        ({"hostPID": True}, "found a way to the host"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "found a way to the host"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "tessera-scheduler-tls"}}]}, "found a Secret"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}, "found a Secret"),
    ):
        body = executor(SYSTEM)
        body["spec"] |= spec
        assert sentence in refused(controller, body), spec
    secret = {"valueFrom": {"secretKeyRef": {"name": "tessera-pool-ca", "key": "tls.key"}}}
    body = executor(SYSTEM)
    body["spec"]["containers"][0]["env"] = [{"name": "A", **secret}]
    assert "found a Secret" in refused(controller, body)
    assert refused(controller, _executor()) == "", "as the controller makes them"
    forged = pod(name="x", serviceAccountName=account["name"])
    forged["metadata"]["namespace"] = SYSTEM
    assert "in a pod of admin; allowed: in executors that the pool makes" in refused(api, forged)
    controller.create(executor(SYSTEM))
    changed = {"metadata": {"annotations": {"state.tessera.io/lease": "default/other"}}}
    assert "found a value" in refusal_of(lambda: controller.patch("Pod", "x", changed, namespace=SYSTEM))
    api.delete("Pod", "x", SYSTEM, "v1")


def _executor() -> Json:
    share = Share("GPU-0", 4 << 30, 30)
    lease = GpuLease("default", "l", "uid", Client("p", "pod-uid", "main", "client"), "node", share)
    options = PoolOptions(SYSTEM, "controller:8444", "torch", "tessera", "tessera-pool-executor", "tessera-pool-ca")
    made = executor_pod(
        Record(lease, "1"), Create("executor-uid-1", 1, Slice(lease.node, lease.share)), wire.Pod(), "", options
    )
    return {"apiVersion": "v1", "kind": "Pod", **made}


def test_the_pools_token_is_mounted_where_slices_may_be_elsewhere(admission: Admission) -> None:
    stored = admission.dry(pod({"gpu-mem": "4Gi"}, notes={"tessera.io/remote": "allowed"}))["spec"]
    (volume,) = (v for v in stored["volumes"] if v["name"] == "tessera-pool-token")
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "tessera-pool", "expirationSeconds": 3600, "path": "token"}}
    ]
    mounts = {m["mountPath"]: m for m in stored["containers"][0]["volumeMounts"]}
    assert mounts["/var/run/secrets/tessera"]["readOnly"] is True
    assert not any(v["name"] == "tessera-pool-token" for v in admission.dry(pod({"gpu-mem": "4Gi"}))["spec"]["volumes"])


def test_an_agent_acts_for_its_own_node_only(admission: Admission) -> None:
    api = admission.api
    for name in ("mine", "other"):
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        api.patch("Node", name, {"status": {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}}, sub="status")
        api.create(pod(name=f"on-{name}", nodeName=name, tolerations=[{"operator": "Exists"}]))
    token = api.service_account_token("tessera-node", SYSTEM, {**api.get("Node", "mine"), "kind": "Node"})
    agent = admission.cluster.as_user(token)
    unbound = admission.cluster.as_user(api.service_account_token("tessera-node", SYSTEM))

    def capacity(by: Api, node: str, key: str) -> str:
        body = {"status": {"capacity": {key: "80Gi"}, "allocatable": {key: "80Gi"}}}
        return refusal_of(lambda: by.patch("Node", node, body, sub="status", how="strategic"))

    assert capacity(agent, "mine", MEM) == ""
    assert api.get("Node", "mine")["status"]["allocatable"][MEM] == "80Gi"
    assert "allowed: the agent's own node, mine" in capacity(agent, "other", MEM)
    assert "a resource that is not ours" in capacity(agent, "mine", "cpu")
    assert "allowed: a token bound to a pod on the agent's node" in capacity(unbound, "mine", MEM)
    condition = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert "a change beside capacity" in refusal_of(lambda: agent.patch("Node", "mine", condition, sub="status"))

    def gpu_node(name: str) -> Json:
        return {"apiVersion": "tessera.io/v1alpha1", "kind": "GPUNode", "metadata": {"name": name}}

    def publish(name: str) -> str:
        status = {"model": "A100", "gpuCount": 1, "memoryTotal": "80Gi", "gpus": []}
        return refusal_of(
            lambda: agent.patch("GPUNode", name, {"status": status}, version="tessera.io/v1alpha1", sub="status")
        )

    assert refusal_of(lambda: agent.create(gpu_node("mine"))) == ""
    assert "allowed: the agent's own node, mine" in refusal_of(lambda: agent.create(gpu_node("other")))
    api.create(gpu_node("other"))
    assert publish("mine") == "" and "allowed: the agent's own node, mine" in publish("other")
    assert "A100" in admission.kubectl.run("get", "gn").stdout
    assert "allowed: the agent's own node, mine" in refusal_of(lambda: agent.delete("Pod", "on-other", "default"))
    assert refusal_of(lambda: agent.delete("Pod", "on-mine", "default", grace_s=0)) == ""


def test_an_upgrade_keeps_the_certificates_and_the_api_server_takes_every_object(admission: Admission) -> None:
    def certificates() -> list[Json]:
        names = ("tessera-scheduler-tls", "tessera-kube-scheduler-tls")
        return [admission.api.get("Secret", name, SYSTEM)["data"] for name in names]

    before = certificates()
    admission.kubectl.helm("upgrade", "tessera", str(CHART), *VALUES, "--set", "log.level=debug")
    assert certificates() == before
    deployed = {d["metadata"]["name"] for d in admission.api.items("Deployment", SYSTEM, "apps/v1")}
    assert deployed == {f"tessera-{n}" for n in ("scheduler", "kube-scheduler", "dashboard", "pool-controller")}
    assert not admission.refusal(pod({"gpu-mem": "4Gi"})), "the webhook's bundle still fits"


def test_the_policies_have_no_type_warnings_that_matter(admission: Admission) -> None:
    policies = admission.api.items("ValidatingAdmissionPolicy", version="admissionregistration.k8s.io/v1")
    names = {p["metadata"]["name"] for p in policies}
    slices = (f"slices-{family}" for family in FAMILIES)
    ours = ("assignments", "capacity", "executors", "lease-writers", "leases", "nodes", *slices)
    assert names == {f"tessera-{n}" for n in ours}
    warnings = [w for p in policies for w in p.get("status", {}).get("typeChecking", {}).get("expressionWarnings", [])]
    assert not warnings, warnings


def test_examples_are_stored_as_they_stand(admission: Admission) -> None:
    if not shutil.which("kubectl", path=programs.search_path()):
        pytest.fail("kubectl is missing; " + programs.HOW)
    for file in sorted((CHART.parents[1] / "examples").glob("*.yaml")):
        done = admission.kubectl.run("apply", "--dry-run=server", "-f", str(file))
        assert "created" in done.stdout, (file, done.stderr)
