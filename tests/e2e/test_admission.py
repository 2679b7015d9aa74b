"""Admission on a real API server: the chart's webhook and policies as rendered, every kind of client and workload."""

from __future__ import annotations

import asyncio
import base64
import copy
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import yaml
from starlette.applications import Starlette

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
from tessera.scheduler.webhook.compatibility import Dialect
from tessera.scheduler.webhook.patches import applied
from tessera.scheduler.webhook.rewrite import Options, rewrite
from tessera.scheduler.webhook.routes import routes
from tessera.serving import Server, Tls
from tests.e2e import programs
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
from tests.e2e.cluster.addresses import free_ports
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.cluster import Cluster
from tests.e2e.cluster.kubectl import Kubectl
from tests.e2e.cluster.processes import wait_until

pytestmark = pytest.mark.e2e
CHART = Path(__file__).parents[2] / "charts" / "tessera"
SYSTEM = "tessera-system"
LEASE = "tessera.io/v1alpha1"
SET = (
    "compatibility={hami}",
    "gpuNodes.taint=true",
    "pool.enabled=true",
    "node.agent.shim=true",
    f"node.agent.contextBytes={CONTEXT_BYTES}",
)
VALUES = ("--namespace", SYSTEM, *(word for each in SET for word in ("--set", each)))
FAMILIES = ("pods", "templates", "cronjobs", "podtemplates")
WARNING = "use this name in files kept in Git: removing the short key later does not remove the request"


@dataclass
class Admission:
    """A control plane without nodes, the chart's admission objects, and the webhook served with the chart's keys."""

    cluster: Cluster
    api: Api
    kubectl: Kubectl

    def refusal(self, body: Json, api: Api | None = None) -> str:
        """The server's sentence against creating ``body``, or an empty text."""
        return _refusal(lambda: self.dry(body, api))

    def dry(self, body: Json, api: Api | None = None) -> Json:
        """What would be stored."""
        api = api or self.api
        path = api.path(body["kind"], "", body["metadata"].get("namespace"), body["apiVersion"])
        stored: Json = yaml.safe_load(api.request("POST", f"{path}?dryRun=All", body))
        return stored


def _refusal(act: Callable[[], object]) -> str:
    try:
        act()
    except ApiError as error:
        return error.message
    return ""


@pytest.fixture(scope="module")
def admission() -> Iterator[Admission]:
    try:
        cluster = Cluster(specs=()).start()
    except programs.Missing as missing:
        pytest.fail(str(missing), pytrace=False)
    stop = _install(cluster)
    try:
        found = Admission(cluster, cluster.api, cluster.kubectl())
        wait_until("policies in force", lambda: "0 or more" not in found.refusal(pod({MEM: "0", **SLOT})) and
                   found.refusal(pod({MEM: "0", **SLOT})))  # fmt: skip
        wait_until("webhook in force", lambda: not found.refusal(pod({"gpu-mem": "4Gi"})))
        yield found
    finally:
        stop()
        cluster.stop()


def _install(cluster: Cluster) -> Callable[[], None]:
    """The chart by `helm install`. No node runs its pods: an endpoint beside them leads to the webhook served here."""
    cluster.api.wait("ServiceAccount", "default", bool)
    cluster.kubectl().helm("install", "tessera", str(CHART), "--create-namespace", *VALUES)
    port = free_ports(1)[0]
    stop = _serve(cluster, cluster.api.get("Secret", "tessera-scheduler-tls", SYSTEM), port)
    labels = {"kubernetes.io/service-name": "tessera-scheduler", "endpointslice.kubernetes.io/managed-by": "e2e"}
    cluster.api.create(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": "webhook-of-the-test", "namespace": SYSTEM, "labels": labels},
            "endpoints": [{"addresses": [cluster.block.api], "conditions": {"ready": True}}],
            "ports": [{"name": "webhook", "port": port}],
        }
    )
    return stop


def _serve(cluster: Cluster, secret: Json, port: int) -> Callable[[], None]:
    files = {}
    for name, value in secret["data"].items():
        files[name] = cluster.directory / "certs" / f"webhook-{name}"
        files[name].write_bytes(base64.b64decode(value))
    app = Starlette(routes=routes(Options(tolerate=True, pool=True, compatibility=frozenset({Dialect.HAMI}))))
    server = Server(app, cluster.block.api, port, Tls(files["tls.crt"], files["tls.key"]))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)

    return stop


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
        return _refusal(lambda: admission.api.patch("Pod", "debugged", body, namespace="default",
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
        return _refusal(lambda: by.request("POST", f"/api/v1/namespaces/default/{path}", binding))

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
                refused = _refusal(
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
    assert "found a value" in _refusal(lambda: controller.patch("Pod", "x", changed, namespace=SYSTEM))
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
        return _refusal(lambda: by.patch("Node", node, body, sub="status", how="strategic"))

    assert capacity(agent, "mine", MEM) == ""
    assert api.get("Node", "mine")["status"]["allocatable"][MEM] == "80Gi"
    assert "allowed: the agent's own node, mine" in capacity(agent, "other", MEM)
    assert "a resource that is not ours" in capacity(agent, "mine", "cpu")
    assert "allowed: a token bound to a pod on the agent's node" in capacity(unbound, "mine", MEM)
    condition = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert "a change beside capacity" in _refusal(lambda: agent.patch("Node", "mine", condition, sub="status"))

    def gpu_node(name: str) -> Json:
        return {"apiVersion": "tessera.io/v1alpha1", "kind": "GPUNode", "metadata": {"name": name}}

    def publish(name: str) -> str:
        status = {"model": "A100", "gpuCount": 1, "memoryTotal": "80Gi", "gpus": []}
        return _refusal(
            lambda: agent.patch("GPUNode", name, {"status": status}, version="tessera.io/v1alpha1", sub="status")
        )

    assert _refusal(lambda: agent.create(gpu_node("mine"))) == ""
    assert "allowed: the agent's own node, mine" in _refusal(lambda: agent.create(gpu_node("other")))
    api.create(gpu_node("other"))
    assert publish("mine") == "" and "allowed: the agent's own node, mine" in publish("other")
    assert "A100" in admission.kubectl.run("get", "gn").stdout
    assert "allowed: the agent's own node, mine" in _refusal(lambda: agent.delete("Pod", "on-other", "default"))
    assert _refusal(lambda: agent.delete("Pod", "on-mine", "default", grace_s=0)) == ""


def test_a_client_node_attaches_leases_of_its_own_containers_and_changes_nothing_else(admission: Admission) -> None:
    api = admission.api
    for name in ("client", "elsewhere"):
        api.create(_lease(f"of-{name}", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})))
    token = api.service_account_token("tessera-client-node", SYSTEM, {**api.get("Node", "client"), "kind": "Node"})
    plugin = admission.cluster.as_user(token)

    def refused(by: Api, name: str, body: Json, sub: str = "") -> str:
        act = {"namespace": "default", "version": "tessera.io/v1alpha1", "sub": sub}
        return _refusal(lambda: by.patch("GPULease", name, body, **act))

    attach = {"spec": {"attach": {"device": "slot-000-1", "after": "former"}}}
    assert refused(plugin, "of-client", attach) == ""
    found = plugin.get("GPULease", "of-client", "default", version="tessera.io/v1alpha1")
    assert found["spec"]["attach"] == attach["spec"]["attach"]
    assert "allowed: the agent's own node, client" in refused(plugin, "of-elsewhere", attach)
    unbound = admission.cluster.as_user(api.service_account_token("tessera-client-node", SYSTEM))
    assert "allowed: a token bound to a pod on the agent's node" in refused(unbound, "of-client", attach)
    for change in (
        {"spec": {"slice": {"memoryBytes": 2}}},
        {"metadata": {"finalizers": []}},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"ownerReferences": []}},
    ):
        assert "allowed: spec.attach" in refused(plugin, "of-client", change), change
    assert "cannot patch resource" in refused(plugin, "of-client", {"status": {"phase": "Active"}}, "status")
    mine = {"version": "tessera.io/v1alpha1", "everywhere": True, "fieldSelector": "spec.client.node=client"}
    assert [each["metadata"]["name"] for each in plugin.items("GPULease", **mine)] == ["of-client"]


def test_who_may_edit_a_namespace_reads_its_leases_and_ends_them(admission: Admission) -> None:
    api = admission.api
    api.create(_lease("whose", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "whose"}})))
    viewer, editor = (_user(admission, role) for role in ("view", "edit"))

    def ended(by: Api) -> str:
        return _refusal(lambda: by.delete("GPULease", "whose", "default", LEASE))

    def reads(by: Api) -> bool:
        return not _refusal(lambda: by.get("GPULease", "whose", "default", LEASE))

    wait_until("the roles to be put together", lambda: reads(viewer) and reads(editor))
    assert "cannot delete resource" in ended(viewer)
    wait_until("the editor's right to delete", lambda: ended(editor) == "")
    kept = api.get("GPULease", "whose", "default", LEASE)["metadata"]
    assert kept["deletionTimestamp"] and kept["finalizers"] == ["pool.tessera.io/executor"]


def test_who_may_edit_a_namespace_says_which_size_its_leases_are_to_have_and_nothing_else(
    admission: Admission,
) -> None:
    api = admission.api
    api.create(_lease("sized", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sized"}})))
    viewer, editor = (_user(admission, role) for role in ("view", "edit"))
    may_all = _user(admission, "all", [{"apiGroups": ["tessera.io"], "resources": ["*"], "verbs": ["*"]}])
    wait_until("the rights", lambda: not any(_sized(by, {"memoryBytes": CONTEXT_BYTES}) for by in (editor, may_all)))
    assert "cannot patch resource" in _sized(viewer, {"memoryBytes": CONTEXT_BYTES})
    for wanted in ({"memoryBytes": 1 << 34, "corePercent": 40}, {"memoryBytes": 1 << 46}, None):
        assert _sized(editor, wanted) == "", wanted
    assert "wanted" not in api.get("GPULease", "sized", "default", LEASE)["spec"]
    for wanted, says in (
        ({"memoryBytes": -(1 << 20)}, "should be greater than or equal to 1048576"),
        ({"memoryBytes": (1 << 30) + 1}, "should be a multiple of 1048576"),
        ({"memoryBytes": (1 << 46) + (1 << 20)}, "should be less than or equal to 70368744177664"),
        ({"memoryBytes": "16Gi"}, "must be of type integer"),
        ({"corePercent": 40}, "spec.wanted.memoryBytes: Required value"),
        ({"memoryBytes": 1 << 30, "corePercent": 101}, "should be less than or equal to 100"),
        ({"memoryBytes": 1 << 20}, "spec.wanted.memoryBytes: found 1048576; allowed: at least "),
    ):
        for by in (editor, may_all):
            assert says in _sized(by, wanted), wanted


@pytest.mark.parametrize(
    ("body", "sub"),
    [
        ({"spec": {"slice": {"memoryBytes": 2}}}, ""),
        ({"spec": {"slice": {"memoryBytes": 2}, "wanted": {"memoryBytes": 1 << 34}}}, ""),
        ({"spec": {"target": {"node": "far", "gpuUUID": "GPU-1", "memoryBytes": 1 << 34}}}, ""),
        ({"spec": {"attach": {"device": "slot-000-1"}}}, ""),
        ({"metadata": {"finalizers": []}}, ""),
        ({"metadata": {"labels": {"a": "b"}}}, ""),
        ({"metadata": {"annotations": {"a": "b"}}}, ""),
        ({"metadata": {"ownerReferences": []}}, ""),
        ({"status": {"phase": "Active"}}, "status"),
    ],
)
def test_what_is_the_systems_in_a_lease_no_user_changes(admission: Admission, body: Json, sub: str) -> None:
    """Not even one with all rights on GPULeases; the system's accounts do."""
    if not admission.api.find("GPULease", "fixed", "default", LEASE):
        node = admission.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fixed"}})
        admission.api.create(_lease("fixed", node))
    user = _user(admission, "all", [{"apiGroups": ["tessera.io"], "resources": ["*"], "verbs": ["*"]}])

    def refused() -> str:
        act = {"namespace": "default", "version": LEASE, "sub": sub}
        return _refusal(lambda: user.patch("GPULease", "fixed", body, **act))

    wait_until("the rights", lambda: "cannot patch resource" not in refused())
    said = "gpuleases/status fixed: found UPDATE from " if sub else "gpuleases fixed: found a change beside spec.wanted"
    assert said in refused() and "system:serviceaccount:default:all" in refused()


def test_leases_are_made_by_the_system_only(admission: Admission) -> None:
    node = admission.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "made"}})
    user = _user(admission, "all", [{"apiGroups": ["tessera.io"], "resources": ["*"], "verbs": ["*"]}])
    said = wait_until("the rights", lambda: _said(admission.refusal(_lease("made", node), user)))
    assert "found CREATE from system:serviceaccount:default:all; allowed: to read and to delete them" in str(said)
    scheduler = admission.cluster.as_user(admission.api.service_account_token("tessera-scheduler", SYSTEM))
    assert admission.refusal(_lease("made", node), scheduler) == ""


def _said(refusal: str) -> str:
    """The policy's words; none while RBAC still refuses."""
    return "" if "cannot create resource" in refusal else refusal


def _sized(by: Api, wanted: Json | None) -> str:
    act = {"namespace": "default", "version": LEASE}
    return _refusal(lambda: by.patch("GPULease", "sized", {"spec": {"wanted": wanted}}, **act))


def _user(admission: Admission, name: str, rules: list[Json] | None = None) -> Api:
    """An account of namespace default with Kubernetes' own role ``name`` there, or with ``rules``."""
    api, rbac = admission.api, "rbac.authorization.k8s.io"
    if not api.find("ServiceAccount", name, "default"):
        kind = "Role" if rules else "ClusterRole"
        meta = {"name": name, "namespace": "default"}
        if rules:
            api.create({"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": meta, "rules": rules})
        api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
                   {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": meta,
                    "roleRef": {"apiGroup": rbac, "kind": kind, "name": name},
                    "subjects": [{"kind": "ServiceAccount", **meta}]})  # fmt: skip
    return admission.cluster.as_user(api.service_account_token(name, "default"))


def _lease(name: str, node: Json) -> Json:
    """A lease of a container on ``node``, which owns it: there is no such pod."""
    client = {"pod": "nobody", "podUID": "uid", "container": "main", "node": node["metadata"]["name"]}
    owner = {"apiVersion": "v1", "kind": "Node", "name": client["node"], "uid": node["metadata"]["uid"]}
    return {
        "apiVersion": "tessera.io/v1alpha1", "kind": "GPULease",
        "metadata": {"name": name, "namespace": "default", "ownerReferences": [owner],
                     "finalizers": ["pool.tessera.io/executor"]},
        "spec": {"client": client, "slice": {"node": "far", "gpuUUID": "GPU-0", "memoryBytes": 1}},
    }  # fmt: skip


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
