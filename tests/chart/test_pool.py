"""The pool's controller and executors in the chart: there only where the pool is, with the rights that they need."""

from __future__ import annotations

import json

import pytest

from tessera.remote.controller.pods import COMPONENT
from tessera.remote.controller.settings import ControllerSettings
from tests.chart.chart import NAMESPACE, Json, Rendered, render

ON: Json = {"pool.enabled": True, "pool.executor.image": "registry/executor:1"}
NAME, EXECUTOR = "tessera-pool-controller", "tessera-pool-executor"


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render(ON)


def verbs(role: Json) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def test_without_the_pool_there_is_nothing_of_it() -> None:
    found = [o for o in render().objects if o["kind"] != "CustomResourceDefinition"]
    assert not [o for o in found if "pool" in o["metadata"]["name"] or "lease" in o["metadata"]["name"]]


def test_executors_have_an_image_of_their_own() -> None:
    found = render({"pool.enabled": True, "image.repository": "mirror/tessera", "image.tag": "1.2"})
    env = {variable["name"]: variable.get("value") for variable in found.containers()["pool-controller"]["env"]}
    assert env["TESSERA_EXECUTOR_IMAGE"] == "mirror/tessera-executor:1.2"
    assert env["TESSERA_GATE_IMAGE"] == "mirror/tessera:1.2"


def test_the_controller_gets_settings_that_it_knows(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    container = rendered.containers()["pool-controller"]
    for variable in container["env"]:
        assert variable["name"].removeprefix("TESSERA_").lower() in ControllerSettings.model_fields, variable
        monkeypatch.setenv(variable["name"], variable.get("value", "pod-1"))
    settings = ControllerSettings(executor_spec_file=None)
    options = settings.options()
    assert options.controller == f"{NAME}.{NAMESPACE}.svc:8444" and settings.port == 8444
    assert (options.namespace, options.service_account) == (NAMESPACE, EXECUTOR)
    assert options.labels == {"app.kubernetes.io/instance": "tessera"}
    assert options.executor_image == "registry/executor:1"
    assert settings.authority_config_map == "tessera-pool-ca", "as client nodes mount it"


def test_rights_are_what_steps_need(rendered: Rendered) -> None:
    assert verbs(rendered.one("ClusterRole", NAME)) == {
        "pods": {"get", "list", "watch"}, "gpuleases": {"get", "list", "watch", "patch", "delete"},
        "gpuleases/status": {"patch"}, "tokenreviews": {"create"}, "events": {"get", "create", "patch"},
        "gpunodes": {"get"},
    }  # fmt: skip
    role = rendered.one("Role", NAME)
    assert verbs(role) == {"leases": {"create", "get", "update", "patch"}, "secrets": {"create", "get"}}
    for rule in role["rules"]:
        assert rule["verbs"] == ["create"] or rule["resourceNames"], "of its own names only"
    assert verbs(rendered.one("Role", "tessera-pool-executors")) == {"pods": {"create", "delete"}}
    bound = [b["subjects"] for b in rendered.all("RoleBinding", "ClusterRoleBinding")]
    assert EXECUTOR not in json.dumps(bound), "executors have no rights"


def test_executors_elsewhere_keep_their_objects_there() -> None:
    found = render({**ON, "pool.namespace": "pool"})
    for kind, name in (
        ("ServiceAccount", EXECUTOR), ("PodDisruptionBudget", EXECUTOR), ("NetworkPolicy", EXECUTOR),
        ("Role", "tessera-pool-executors"),
    ):  # fmt: skip
        assert found.one(kind, name)["metadata"]["namespace"] == "pool"
    published = [r["metadata"]["namespace"] for r in found.all("Role") if r["metadata"]["name"] == f"{NAME}-authority"]
    assert sorted(published) == sorted(["pool", NAMESPACE])


def test_what_selects_executors_is_on_them(rendered: Rendered) -> None:
    labels = {**COMPONENT, "app.kubernetes.io/instance": "tessera"}
    policy, budget = rendered.one("NetworkPolicy", EXECUTOR), rendered.one("PodDisruptionBudget", EXECUTOR)
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["minAvailable"] > 1_000_000, "no eviction ends one"


def test_networks_hold_gates_and_controller_apart_from_the_rest(rendered: Rendered) -> None:
    executor, controller = rendered.one("NetworkPolicy", EXECUTOR), rendered.one("NetworkPolicy", NAME)
    assert executor["spec"]["policyTypes"] == ["Ingress", "Egress"]
    gate = ControllerSettings.model_fields["gate_port"].default
    clients, gates = executor["spec"]["ingress"]
    assert clients["ports"] == gates["ports"] == [{"port": gate}]
    (other,) = gates["from"]
    assert other == {"podSelector": executor["spec"]["podSelector"]}, "of the same namespace: sessions move to gates"
    ports = [port["port"] for rule in executor["spec"]["egress"] for port in rule["ports"]]
    assert ports == [8444, gate, 53, 53]
    assert executor["spec"]["egress"][1]["to"] == [other]
    (rule,) = controller["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"] and peer["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": NAMESPACE
    }


def test_executors_tolerate_what_gpu_nodes_are_tainted_with() -> None:
    taint = {"key": "x", "operator": "Exists"}
    found = render({**ON, "gpuNodes.tolerations": [taint], "pool.executor.runtimeClassName": "nvidia"})
    spec = json.loads(found.one("ConfigMap", NAME)["data"]["spec.json"])
    assert taint in spec["tolerations"] and spec["runtimeClassName"] == "nvidia"


def test_leases_are_written_by_the_system_but_for_what_is_their_users_to_say(rendered: Rendered) -> None:
    policy = rendered.one("ValidatingAdmissionPolicy", "tessera-lease-writers")
    conditions = json.dumps(policy["spec"]["matchConditions"])
    for account in ("scheduler", "pool-controller", "client-node"):
        assert f"system:serviceaccount:{NAMESPACE}:tessera-{account}" in conditions
    assert [v["reason"] for v in policy["spec"]["validations"]] == ["Forbidden"] * 4
    kept = "'attach' in object.spec || !('client' in object.spec)"
    assert any(kept in rule["expression"] for rule in policy["spec"]["validations"]), "a start goes with its pod only"
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert rule["operations"] == ["CREATE", "UPDATE"], "whose deletion is asked for is left to RBAC"


def test_a_size_that_holds_no_context_is_not_wanted_where_contexts_are_charged() -> None:
    found = render({**ON, "node.agent.shim": True, "node.agent.contextBytes": 512 << 20})
    *_, least = found.one("ValidatingAdmissionPolicy", "tessera-lease-writers")["spec"]["validations"]
    assert f">= {512 << 20}" in least["expression"] and "at least 512Mi" in least["message"]


def test_users_read_and_size_their_leases_and_end_them_by_kubernetes_own_roles(rendered: Rendered) -> None:
    view, edit = rendered.one("ClusterRole", "tessera-leases-view"), rendered.one("ClusterRole", "tessera-leases-edit")
    assert verbs(view) == {"gpuleases": {"get", "list", "watch"}}
    assert verbs(edit) == {"gpuleases": {"create", "delete", "patch"}}
    for role, name in ((view, "view"), (edit, "edit")):
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{name}"] == "true"


def test_the_dashboard_reads_leases_and_writes_nothing(rendered: Rendered) -> None:
    found = verbs(rendered.one("ClusterRole", "tessera-dashboard"))
    assert found["gpuleases"] == {"get", "list", "watch"}
    assert {name for name, may in found.items() if may - {"get", "list", "watch"}} == {
        "tokenreviews", "subjectaccessreviews"
    }  # fmt: skip
