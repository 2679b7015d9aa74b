"""The chart renders to what its components and the contract need, and refuses values that make no sense."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from tessera.dashboard.settings import DashboardSettings
from tessera.device_plugin.settings import DevicePluginSettings
from tessera.kube import wire
from tessera.model import names
from tessera.node_agent.settings import NodeAgentSettings
from tessera.scheduler.others import PATH
from tessera.scheduler.settings import SchedulerSettings
from tessera.settings import KubeSettings, LogSettings
from tests.chart.chart import CHART, NAMESPACE, Json, Rendered, helm, refusal, render

SETS: dict[str, Json] = {
    "pool": {"pool": {"enabled": True, "executor": {"image": "x"}}},
    "default": {},
    "cert-manager": {"certificates": {"certManager": {"enabled": True}}},
    "own issuer": {
        "certificates": {"certManager": {"enabled": True, "issuerRef": {"name": "pki", "kind": "ClusterIssuer"}}}
    },
    "own kube-scheduler": {"kubeScheduler": {"enabled": False}, "networkPolicy": {"allowedCidrs": ["10.0.0.1/32"]}},
    "large": {
        "scheduler": {"replicas": 2},
        "kubeScheduler": {"replicas": 2, "image": "mirror/kube-scheduler:v1"},
        "compatibility": ["hami", "gpushare"],
        "gpuNodes": {"taint": True, "selector": {"gpu": "yes"}, "tolerations": [{"key": "x", "operator": "Exists"}]},
        "node": {"runtimeClassName": "nvidia", "driverRoot": "/run/nvidia/driver", "kubeletDir": "/opt/kubelet"},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}]},
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"repository": "mirror/tessera", "digest": "sha256:" + "a" * 64},
    },
    "small": {
        "dashboard": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "policies": {"allowPrivileged": True},
    },
}
FAMILIES = {"pods", "jobs", "templates", "cronjobs", "podtemplates"}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render()


def test_lint() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SETS)
def test_every_set_of_values_renders_whole_objects(name: str) -> None:
    found = render(SETS[name])
    keys = [(o["apiVersion"], o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in found.objects]
    assert len(keys) == len(set(keys)), "no object twice"
    for obj in found.objects:
        if obj["kind"] != "CustomResourceDefinition":
            assert obj["metadata"]["labels"]["app.kubernetes.io/name"] == "tessera", obj["metadata"]["name"]
    for subject in _subjects(found):
        assert (subject["namespace"], subject["name"]) in {
            (o["metadata"]["namespace"], o["metadata"]["name"]) for o in found.all("ServiceAccount")
        }


@pytest.mark.parametrize("name", SETS)
def test_every_container_is_hardened_as_far_as_it_can_be(name: str) -> None:
    found = render(SETS[name])
    for workload, spec in found.pod_specs().items():
        assert spec["enableServiceLinks"] is False, "service variables would be read as settings"
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context, resources = container["securityContext"], container["resources"]
            assert context["readOnlyRootFilesystem"] is True
            assert resources["requests"]["memory"] and resources["limits"]["memory"]
            if container["name"] == "node-agent":
                assert context.get("privileged", False) is (SETS[name].get("node", {}).get("runtimeClassName") is None)
            else:
                assert context["capabilities"] == {"drop": ["ALL"]} and context["allowPrivilegeEscalation"] is False
            if not workload.endswith("-node"):
                assert spec["securityContext"]["runAsNonRoot"] is True
            paths = [m["mountPath"] for m in container["volumeMounts"]]
            assert len(paths) == len(set(paths)) and {m["name"] for m in container["volumeMounts"]} <= {
                v["name"] for v in spec["volumes"]
            }


def test_rights_are_named_one_by_one(rendered: Rendered) -> None:
    for role in rendered.all("ClusterRole", "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], role["metadata"]["name"]
    scheduler = _verbs(rendered.one("ClusterRole", "tessera-scheduler"))
    assert scheduler == {
        "pods": {"get", "list", "watch", "delete"}, "pods/binding": {"create"}, "pods/status": {"patch"},
        "gpunodes": {"get", "list", "watch"}, "nodes": {"get", "list", "watch", "patch"},
        "events": {"get", "create", "patch"}, "poddisruptionbudgets": {"list"},
    }  # fmt: skip
    node = _verbs(rendered.one("ClusterRole", "tessera-node"))
    assert node == {
        "pods": {"get", "list", "watch", "delete"}, "nodes": {"get", "list", "watch"}, "nodes/status": {"patch"},
        "gpunodes": {"create"}, "gpunodes/status": {"patch"}, "events": {"get", "create", "patch"},
        "resourceslices": {"list"},
    }  # fmt: skip
    dashboard = _verbs(rendered.one("ClusterRole", "tessera-dashboard"))
    written = {"tokenreviews", "subjectaccessreviews"}
    assert all(verbs == {"get", "list", "watch"} for name, verbs in dashboard.items() if name not in written)
    assert not [o for o in rendered.objects if "secrets" in json.dumps(o.get("rules", []))]


def test_components_get_settings_that_they_know(rendered: Rendered) -> None:
    shared = {f"TESSERA_{f}".upper() for s in (KubeSettings, LogSettings) for f in s.model_fields}
    known: dict[str, tuple[Any, str]] = {
        "scheduler": (SchedulerSettings, "TESSERA_"),
        "device-plugin": (DevicePluginSettings, "TESSERA_"),
        "node-agent": (NodeAgentSettings, "TESSERA_"),
        "dashboard": (DashboardSettings, "TESSERA_DASHBOARD_"),
    }
    for name, (settings, prefix) in known.items():
        container = rendered.containers()[name]
        assert container["args"] == [name]
        fields = {f"{prefix}{field}".upper() for field in settings.model_fields} | shared
        given = {e["name"] for e in container["env"] if e["name"].startswith("TESSERA_")}
        assert given <= fields, given - fields
        values = {
            e["name"].removeprefix(prefix).lower(): e.get("value", "x")
            for e in container["env"]
            if e["name"].startswith(prefix)
            and e["name"] not in shared - {f"{prefix}{f}".upper() for f in settings.model_fields}
        }
        lists = {k: json.loads(v) if v.startswith("[") else v for k, v in values.items()}
        assert settings(**lists)


def test_kube_scheduler_calls_the_extender_as_the_design_tried_it(rendered: Rendered) -> None:
    config = yaml.safe_load(rendered.one("ConfigMap", "tessera-kube-scheduler")["data"]["config.yaml"])
    extender, _ = config["extenders"]
    assert config["percentageOfNodesToScore"] == 100 and config["profiles"] == [{"schedulerName": "tessera"}]
    assert extender["urlPrefix"] == f"https://tessera-scheduler.{NAMESPACE}.svc:8443"
    assert set(extender["tlsConfig"]) == {"caFile", "certFile", "keyFile"} and extender["enableHTTPS"] is True
    assert (extender["ignorable"], extender["nodeCacheCapable"], extender["weight"]) == (False, True, 160)
    managed = {r["name"].removeprefix("tessera.io/"): r["ignoredByScheduler"] for r in extender["managedResources"]}
    assert managed == {"gpu-mem": True, "gpu-core": True, "gpu-count": True, "gpu": True, "slice": False}
    service = rendered.one("Service", "tessera-scheduler")
    assert {p["name"]: p["port"] for p in service["spec"]["ports"]} == {"webhook": 443, "extender": 8443}


def test_the_policys_weight_is_a_value_and_its_change_restarts_kube_scheduler(rendered: Rendered) -> None:
    blended = render({"scheduler": {"policyWeight": 15}})
    config = yaml.safe_load(blended.one("ConfigMap", "tessera-kube-scheduler")["data"]["config.yaml"])
    assert config["extenders"][0]["weight"] == 15
    annotations = [
        each.one("Deployment", "tessera-kube-scheduler")["spec"]["template"]["metadata"]["annotations"]
        for each in (rendered, blended)
    ]
    assert annotations[0]["checksum/settings"] != annotations[1]["checksum/settings"]


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        ({}, "chosen"),
        ({"policyWeight": 151}, "chosen"),
        ({"policyWeight": 150}, "feasible"),
        ({"filterAnswers": "feasible"}, "feasible"),
    ],
)
def test_filter_names_the_chosen_node_only_where_no_other_preference_counts(given: Json, answers: str) -> None:
    container = render({"scheduler": given}).containers()["scheduler"]
    found = {each["name"]: each.get("value") for each in container["env"]}
    assert found["TESSERA_FILTER_ANSWERS"] == answers


def test_pods_without_slices_are_steered_unless_that_is_turned_off(rendered: Rendered) -> None:
    steered = render({"scheduler": {"policyWeight": 15}})
    config = yaml.safe_load(steered.one("ConfigMap", "tessera-kube-scheduler")["data"]["config.yaml"])
    slices, others = config["extenders"]
    assert others["urlPrefix"] == f"{slices['urlPrefix']}/others" and others["tlsConfig"] == slices["tlsConfig"]
    assert {key for key in others if key.endswith("Verb")} == {"prioritizeVerb"} and "managedResources" not in others
    assert (others["ignorable"], others["nodeCacheCapable"], others["weight"]) == (True, True, 15)
    assert f"/{others['urlPrefix'].rpartition('/')[2]}/{others['prioritizeVerb']}" == PATH
    unsteered = render({"scheduler": {"steerOthers": False}})
    plain = unsteered.one("ConfigMap", "tessera-kube-scheduler")["data"]["config.yaml"]
    assert len(yaml.safe_load(plain)["extenders"]) == 1
    assert refusal({"scheduler": {"steerOthers": "yes"}})


def test_certificates_fit_each_other(rendered: Rendered) -> None:
    server, client = (
        {k: base64.b64decode(v) for k, v in rendered.one("Secret", f"tessera-{name}-tls")["data"].items()}
        for name in ("scheduler", "kube-scheduler")
    )
    ca = x509.load_pem_x509_certificate(server["ca.crt"])
    assert client["ca.crt"] == server["ca.crt"]
    for pair in (server, client):
        x509.load_pem_x509_certificate(pair["tls.crt"]).verify_directly_issued_by(ca)
    hosts = x509.load_pem_x509_certificate(server["tls.crt"]).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert f"tessera-scheduler.{NAMESPACE}.svc" in hosts.value.get_values_for_type(x509.DNSName)
    subject = x509.load_pem_x509_certificate(client["tls.crt"]).subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "tessera-kube-scheduler"
    for webhook in rendered.one("MutatingWebhookConfiguration", "tessera")["webhooks"]:
        assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == server["ca.crt"]


def test_with_cert_manager_no_key_is_in_the_chart() -> None:
    found = render(SETS["cert-manager"])
    assert not found.all("Secret") and len(found.all("Certificate")) == 3
    configuration = found.one("MutatingWebhookConfiguration", "tessera")
    assert (
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"] == f"{NAMESPACE}/tessera-scheduler"
    )
    assert all("caBundle" not in w["clientConfig"] for w in configuration["webhooks"])
    assert {c["spec"]["issuerRef"]["name"] for c in render(SETS["own issuer"]).all("Certificate")} == {"pki"}


def test_the_webhook_fails_closed_and_only_for_those_who_ask(rendered: Rendered) -> None:
    webhooks = rendered.one("MutatingWebhookConfiguration", "tessera")["webhooks"]
    assert {w["name"].partition(".")[0] for w in webhooks} == FAMILIES
    for webhook in webhooks:
        assert webhook["failurePolicy"] == "Fail" and webhook["sideEffects"] == "None"
        assert webhook["reinvocationPolicy"] == "IfNeeded"
        conditions = {c["name"]: c["expression"] for c in webhook["matchConditions"]}
        assert "'gpu-mem'" in conditions["needs-rewriting"] and "nvidia.com" not in conditions["needs-rewriting"]
        assert ("made-by-hand" in conditions) is (webhook["name"] != "pods.webhook.tessera.io")
    large = render(SETS["large"]).one("MutatingWebhookConfiguration", "tessera")["webhooks"]
    assert all("'nvidia.com/gpumem'" in json.dumps(w) and "'aliyun.com/gpu-mem'" in json.dumps(w) for w in large)


def test_policies_deny_and_each_has_its_binding(rendered: Rendered) -> None:
    policies = {p["metadata"]["name"]: p["spec"] for p in rendered.all("ValidatingAdmissionPolicy")}
    bindings = {b["spec"]["policyName"]: b["spec"] for b in rendered.all("ValidatingAdmissionPolicyBinding")}
    assert policies.keys() == bindings.keys()
    assert all(b["validationActions"] == ["Deny"] for b in bindings.values())
    assert all(p["failurePolicy"] == "Fail" for p in policies.values())
    assert any("privileged" in v["expression"] for v in policies["tessera-slices-pods"]["validations"])
    allowed = render(SETS["small"]).one("ValidatingAdmissionPolicy", "tessera-slices-pods")["spec"]["validations"]
    assert not any("privileged" in v["expression"] for v in allowed)


def test_the_policies_name_what_the_model_names(rendered: Rendered) -> None:
    text = json.dumps(rendered.one("ValidatingAdmissionPolicy", "tessera-slices-pods"))
    notes = [v for k, v in vars(names).items() if k.isupper() and isinstance(v, str) and v.startswith("tessera.io/")]
    for name in (*names.RESERVED_ENV, names.RESERVED_ENV_PREFIX, *notes):
        assert f"'{name}'" in text, name
    guard = json.dumps(rendered.one("ValidatingAdmissionPolicy", "tessera-assignments"))
    assert names.ASSIGNMENT in guard and names.STATE_PREFIX in guard


def test_gpu_nodes_are_chosen_and_the_host_is_reached_as_little_as_possible() -> None:
    spec = render(SETS["large"]).pod_specs()["tessera-node"]
    assert spec["nodeSelector"] == {"gpu": "yes"} and spec["runtimeClassName"] == "nvidia" and spec["hostPID"] is True
    assert {t["key"] for t in spec["tolerations"]} == {"tessera.io/gpu", "nvidia.com/gpu", "x"}
    paths = {v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
    assert paths == {"/opt/kubelet/device-plugins", "/opt/kubelet/pod-resources", "/var/run/cdi", "/etc/cdi",
                     "/var/lib/tessera", "/sys/fs/cgroup", "/run/nvidia/driver"}  # fmt: skip
    writable = {m["mountPath"] for c in spec["containers"] for m in c["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/opt/kubelet/device-plugins", "/var/run/cdi", "/var/lib/tessera", "/sys/fs/cgroup",
                        "/run/tessera", "/tmp"}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "writable"), [("auto", True), ("driver", True), ("mps", True), ("partition", True), ("watch", False)]
)
def test_the_limits_of_cgroups_can_be_set_where_slices_may_have_some(asked: str, writable: bool) -> None:
    spec = render({"node": {"agent": {"enforcement": asked}}}).pod_specs()["tessera-node"]
    (mount,) = [m for c in spec["containers"] for m in c["volumeMounts"] if m["mountPath"] == "/sys/fs/cgroup"]
    assert mount["readOnly"] is not writable


def test_the_gpunode_schema_holds_what_the_wire_writes(rendered: Rendered) -> None:
    (version,) = rendered.one("CustomResourceDefinition", "gpunodes.tessera.io")["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    gpu = wire.GpuStatus(uuid="u", model="A100", memory_bytes=1, memory_total_bytes=1)
    written = msgspec.to_builtins(wire.GpuNodeStatus(gpus=[gpu]))
    assert written.keys() == status.keys()
    assert written["gpus"][0].keys() == status["gpus"]["items"]["properties"].keys()
    columns = [c["name"] for c in version["additionalPrinterColumns"]]
    assert columns == ["Model", "GPUs", "Memory", "Allocated", "Free", "Level", "Clients", "Health", "Age"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"placement": "tight"}, "/placement"),
        ({"enforcement": 4}, "/enforcement"),
        ({"compatibility": ["x"]}, "/compatibility/0"),
        ({"webhook": {"failurePolicy": "Maybe"}}, "/webhook/failurePolicy"),
        ({"scheduler": {"policyWeight": 0}}, "/scheduler/policyWeight"),
        ({"scheduler": {"policyWeight": 1.5}}, "/scheduler/policyWeight"),
        ({"scheduler": {"filterAnswers": "best"}}, "/scheduler/filterAnswers"),
        ({"webhook": {"timeoutSeconds": 31}}, "/webhook/timeoutSeconds"),
        ({"policies": {"schedulers": []}}, "/policies/schedulers"),
        ({"policies": {"extraBinders": ["x' || true"]}}, "/policies/extraBinders/0"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"node": {"kubeletDir": "var"}}, "/node/kubeletDir"),
        ({"networkPolicy": {"allowedCidrs": ["everyone"]}}, "/networkPolicy/allowedCidrs/0"),
        ({"gpuNode": {}}, "gpuNode"),
        ({"dashboard": {"auth": "none"}}, "auth"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: Json, field: str) -> None:
    assert field in refusal(values)


def test_another_release_name_renames_everything() -> None:
    found = render({}, release="east")
    assert "east-tessera-scheduler" in found.pod_specs()
    text = json.dumps(found.one("ValidatingAdmissionPolicy", "east-tessera-assignments"))
    assert f"system:serviceaccount:{NAMESPACE}:east-tessera-scheduler" in text


def _verbs(role: Json) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            found.setdefault(resource, set()).update(rule["verbs"])
    return found


def _subjects(found: Rendered) -> Iterator[Json]:
    for binding in found.all("ClusterRoleBinding", "RoleBinding"):
        yield from binding["subjects"]
