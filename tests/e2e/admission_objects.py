"""Objects for the admission tests: builders, and tables of what must be stored and what must be refused how."""

from __future__ import annotations

import random
from typing import Any

Json = dict[str, Any]
MEM, CORE, COUNT, GPU, SLICE = (f"tessera.io/{n}" for n in ("gpu-mem", "gpu-core", "gpu-count", "gpu", "slice"))
SLOT = {SLICE: "1"}
CONTEXT_BYTES = 256 << 20
"""What the shim charges a program's context with in these tests."""


def pod(limits: Json | None = None, *, name: str = "one", notes: Json | None = None, **spec: Any) -> Json:
    """A pod of one container; what it asks for is placed by the chart's scheduler unless told otherwise."""
    container = {"name": "main", "image": "cuda", "resources": {"limits": limits or {}}}
    container |= spec.pop("container", {})
    asks = any(str(key).startswith("tessera.io/") for key in limits or {})
    body = {"containers": [container, *spec.pop("more", [])], **({"schedulerName": "tessera"} if asks else {}), **spec}
    metadata: Json = {"name": name, "namespace": "default"}
    if notes is not None:
        metadata["annotations"] = notes
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def workload(kind: str, limits: Json, name: str = "one") -> Json:
    """A workload of that kind around ``pod(limits)``."""
    labels = {"app": name}
    template: Json = {"metadata": {"labels": labels}, "spec": pod(limits)["spec"]}
    template["spec"].pop("schedulerName", None)
    meta = {"name": name, "namespace": "default"}
    group = {"Job": "batch/v1", "CronJob": "batch/v1", "ReplicationController": "v1", "PodTemplate": "v1"}
    head: Json = {"apiVersion": group.get(kind, "apps/v1"), "kind": kind, "metadata": meta}
    if kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "Never"
    if kind == "PodTemplate":
        return {**head, "template": template}
    if kind == "CronJob":
        return {**head, "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}}}
    if kind == "Job":
        return {**head, "spec": {"template": template}}
    selector = labels if kind == "ReplicationController" else {"matchLabels": labels}
    spec: Json = {"selector": selector, "template": template}
    if kind != "DaemonSet":
        spec["replicas"] = 0
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {**head, "spec": spec}


def spec_of(body: Json) -> Json:
    """The pod spec within an object of any kind."""
    node: Json = body["template"] if "template" in body else body["spec"]
    node = node["jobTemplate"]["spec"] if "jobTemplate" in node else node
    node = node.get("template", node)
    inner: Json = node.get("spec", node)
    return inner


def limits_of(body: Json) -> Json:
    limits: Json = spec_of(body)["containers"][0]["resources"].get("limits", {})
    return limits


KINDS = (
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
    "PodTemplate",
)


def container(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "cuda", **fields}


GOOD = {
    "plain": pod({"gpu-mem": "4Gi"}),
    "decimal": pod({"gpu-mem": "500M"}),
    "compute": pod({"gpu-mem": "1.5Gi", "gpu-core": 30}),
    "compute alone": pod({"gpu-core": 100}),
    "two gpus": pod({"gpu-mem": "20Gi", "gpu-core": 150, "gpu-count": 2}),
    "whole": pod({"gpu": 8}),
    "qualified": pod({MEM: "64Ti", **SLOT}),
    "qualified, other scheduler's default": pod({MEM: "4Gi"}, schedulerName="default-scheduler"),
    "sidecar": pod(
        {"gpu-mem": "1Gi"},
        initContainers=[container("side", restartPolicy="Always", resources={"limits": {"gpu-mem": "1Gi"}})],
    ),
    "two slices": pod({"gpu-mem": "1Gi"}, more=[container("b", resources={"limits": {"gpu-mem": "2Gi"}})]),
    "remote": pod({"gpu-mem": "4Gi"}, notes={"tessera.io/remote": "required"}),
    "remote, of a lease that stands": pod(
        {"gpu-mem": "4Gi"}, notes={"tessera.io/remote": "required", "tessera.io/gpu-lease": "my.lease-1"}
    ),
    "whole, perhaps remote": pod({"gpu": 1}, notes={"tessera.io/remote": "allowed"}),
    "hami": pod({"nvidia.com/gpu": 2, "nvidia.com/gpumem": 3000}),
    "annotations": pod(
        {"gpu-core": 30},
        notes={
            "tessera.io/placement": "spread",
            "tessera.io/gpu-model": "A100, !H100",
            "tessera.io/remote": "allowed",
            "tessera.io/qos": "burstable",
            "tessera.io/gpu-core-limit": "30",
            "tessera.io/enforcement": "3",
        },
    ),
    "no slice": pod(container={"env": [{"name": "LD_PRELOAD", "value": "x"}], "securityContext": {"privileged": True}}),
    "no slice, bound": pod(nodeName="node-a"),
}

LIMITS = "spec.containers[main].resources.limits"
NOTES = "metadata.annotations"


def noted(**notes: str) -> Json:
    """A pod of 30 points of compute with these annotations of ours; ``_`` stands for ``-``."""
    return pod({"gpu-core": 30}, notes={f"tessera.io/{key.replace('_', '-')}": value for key, value in notes.items()})


def with_env(name: str, **fields: Any) -> Json:
    """A container that sets a variable."""
    return container("b", env=[{"name": name, "value": "x"}], **fields)


BAD = {
    "zero": (
        pod({"gpu-mem": 0}),
        f"{LIMITS}[tessera.io/gpu-mem]: found '0'; allowed: whole bytes from 1 to 64Ti, such as 4Gi or 500M",
    ),
    "100Ti": (pod({"gpu-mem": "100Ti"}), "found '100Ti'; allowed: whole bytes from 1 to 64Ti"),
    "below a context": (
        pod({"gpu-mem": "500M", "gpu-count": 2}),
        f"{LIMITS}[tessera.io/gpu-mem]: found '500M'; allowed: at least 256Mi for each GPU, which a program's context",
    ),
    "huge": (pod({"gpu-mem": "9E"}), "found '9E'; allowed"),
    "negative": (pod({"gpu-mem": "-4Gi"}), "must be greater than or equal to 0"),
    "fraction": (pod({"gpu-mem": "500m"}), "must be an integer"),
    "no quantity": (pod({"gpu-mem": "lots"}), "quantities must match"),
    "core 0": (
        pod({"gpu-core": 0}),
        f"{LIMITS}[tessera.io/gpu-core]: found '0'; allowed: a whole number from 1 to 100",
    ),
    "core 101": (pod({"gpu-core": 101}), "found '101'; allowed: a whole number from 1 to 100"),
    "core 201 on 2": (pod({"gpu-core": 202, "gpu-count": 2}), "found '202'; allowed: a whole number from 1 to 200"),
    "core odd": (pod({"gpu-core": 51, "gpu-count": 2}), "found '51'; allowed: a multiple of tessera.io/gpu-count, 2"),
    "core huge": (pod({"gpu-core": "9E"}), "found '9E'; allowed"),
    "count alone": (pod({"gpu-count": 2}), "allowed: only beside tessera.io/gpu-mem or tessera.io/gpu-core"),
    "count 0": (
        pod({"gpu-mem": "1Gi", "gpu-count": 0}),
        f"{LIMITS}[tessera.io/gpu-count]: found '0'; allowed: a whole number from 1 to 64",
    ),
    "count 65": (pod({"gpu-mem": "1Gi", "gpu-count": 65}), "found '65'; allowed: a whole number from 1 to 64"),
    "gpu 0": (pod({"gpu": 0}), f"{LIMITS}[tessera.io/gpu]: found '0'; allowed: a whole number from 1 to 64"),
    "gpu and mem": (
        pod({"gpu": 1, "gpu-mem": "1Gi"}),
        "found '1'; allowed: not beside tessera.io/gpu-mem, gpu-core or gpu-count",
    ),
    "gpu and count": (pod({"gpu": 1, "gpu-count": 1}), "allowed: not beside"),
    "slice alone": (pod(SLOT), f"{LIMITS}[tessera.io/slice]: found '1'; allowed: only beside a tessera.io request"),
    "slice 2": (pod({MEM: "1Gi", SLICE: "2"}), "found '2'; allowed: 1, as the webhook writes it"),
    "unknown key": (
        pod({MEM: "1Gi", "tessera.io/gpu-memory": "1", **SLOT}),
        "found tessera.io/gpu-memory; allowed: tessera.io/gpu-mem,",
    ),
    "requests differ": (
        pod(container={"resources": {"limits": {"gpu-mem": "4Gi"}, "requests": {"gpu-mem": "2Gi"}}}),
        "must be equal to tessera.io/gpu-mem limit",
    ),
    "init": (
        pod(initContainers=[container("prep", resources={"limits": {"gpu-mem": "1Gi"}})]),
        "spec.initContainers[prep].resources: found a tessera.io resource; allowed: slices in ordinary containers",
    ),
    "pod level": (pod(resources={"limits": {"gpu-mem": "1Gi"}}), "spec.resources.limits[gpu-mem]"),
    "placement": (
        noted(placement="tight"),
        f"{NOTES}[tessera.io/placement]: found 'tight'; allowed: fragmentation, pack, spread",
    ),
    "remote": (noted(remote="yes"), "found 'yes'; allowed: never, allowed, required"),
    "lease misnamed": (
        noted(remote="required", gpu_lease="My_Lease"),
        f"{NOTES}[tessera.io/gpu-lease]: found 'My_Lease'; allowed: the name of a GPULease of the pod's namespace",
    ),
    "lease unnamed": (noted(remote="required", gpu_lease=""), f"{NOTES}[tessera.io/gpu-lease]: found ''; allowed"),
    "lease, perhaps here": (
        noted(remote="allowed", gpu_lease="one"),
        f"{NOTES}[tessera.io/gpu-lease]: found 'one'; allowed: only with tessera.io/remote: required",
    ),
    "lease, not remote": (noted(gpu_lease="one"), "found 'one'; allowed: only with tessera.io/remote: required"),
    "qos": (noted(qos=""), "found ''; allowed: guaranteed, burstable, best-effort"),
    "enforcement": (noted(enforcement="4"), "found '4'; allowed: 0, 1, 2, 3"),
    "model": (noted(gpu_model="A100,,H100"), "allowed: a comma list of names"),
    "limit guaranteed": (noted(gpu_core_limit="50"), "allowed: only with tessera.io/qos: burstable"),
    "limit low": (
        noted(gpu_core_limit="29", qos="burstable"),
        "found '29'; allowed: a whole number of at least the request, 30",
    ),
    "limit word": (noted(gpu_core_limit="all", qos="burstable"), "found 'all'; allowed"),
    "annotation misspelt": (noted(placment="pack"), "found tessera.io/placment; allowed: tessera.io/placement"),
    "remote on two gpus": (
        pod({"gpu-mem": "4Gi", "gpu-count": 2}, notes={"tessera.io/remote": "required"}),
        f"{LIMITS}[tessera.io/gpu-count]: found '2'; allowed: with tessera.io/remote: required a slice of one GPU",
    ),
    "remote, whole": (
        pod({"gpu": 1}, notes={"tessera.io/remote": "required"}),
        f"{LIMITS}[tessera.io/gpu]: found '1'; allowed: with tessera.io/remote: required a slice of one GPU",
    ),
    "visible devices": (
        pod({"gpu-mem": "1Gi"}, more=[with_env("NVIDIA_VISIBLE_DEVICES")]),
        "spec.containers[b].env: found NVIDIA_VISIBLE_DEVICES; allowed: any variable but",
    ),
    "own prefix": (
        pod({"gpu-mem": "1Gi"}, more=[with_env("TESSERA_SLICE")]),
        "spec.containers[b].env: found TESSERA_SLICE",
    ),
    "env in init": (
        pod({"gpu-mem": "1Gi"}, initContainers=[with_env("LD_PRELOAD")]),
        "spec.initContainers[b].env: found LD_PRELOAD",
    ),
    "bound": (
        pod({"gpu-mem": "1Gi"}, nodeName="node-a"),
        "spec.nodeName: found 'node-a'; allowed: none in a pod with a slice",
    ),
    "other scheduler": (
        pod({MEM: "1Gi"}, schedulerName="volcano"),
        "spec.schedulerName: found 'volcano'; allowed: tessera",
    ),
    "privileged": (
        pod({"gpu-mem": "1Gi"}, container={"securityContext": {"privileged": True}}),
        "spec.containers[main].securityContext.privileged: found true; allowed: false",
    ),
    "assignment": (
        noted(assignment="{}"),
        f"{NOTES}[tessera.io/assignment]: found a value from admin; allowed: only what the scheduler writes",
    ),
    "state": (pod(notes={"state.tessera.io/x": "1"}), f"{NOTES}[state.tessera.io/x]"),
}


AMOUNTS = {
    "gpu-mem": ("4Gi", "500M", "256Mi", "268435455", "512Mi", "0", "64Ti", "65Ti", "-1", "500m", "1.5Gi", "1", "7E"),
    "gpu-core": (1, 30, 100, 101, 150, 200, 0, "1k", "500m", -5),
    "gpu-count": (1, 2, 3, 64, 65, 0),
    "gpu": (1, 2, 64, 65, 0),
    SLICE: (1, 1, 1, 2),
}
CHOICES = {
    "placement": ("pack", "spread", "fragmentation", "fgd", "Pack", ""),
    "remote": ("never", "required", "no"),
    "qos": ("guaranteed", "burstable", "burstable", "best-effort", "best"),
    "enforcement": ("0", "3", "4", "03"),
    "gpu-model": ("A100", "A100,!H100", "!", "", " A100 , H100", "a,,b"),
    "gpu-core-limit": ("1", "30", "100", "200", "1k", "0", "x", "500m"),
    "gpu-lease": ("one", "one.2-3", "1", "-one", "one.", "One", "", "a" * 253, "a" * 254),
}


def generated(draw: random.Random) -> Json:
    """A pod of one or two containers with amounts and annotations from the edges of what is allowed."""

    def limits() -> Json:
        keys = draw.choices(list(AMOUNTS), (6, 5, 3, 2, 1), k=draw.randint(0, 3))
        return {k if draw.random() < 0.5 or k == SLICE else f"tessera.io/{k}": draw.choice(AMOUNTS[k]) for k in keys}

    notes = {f"tessera.io/{k}": draw.choice(v) for k, v in CHOICES.items() if draw.random() < 0.12}
    body = pod(limits(), notes=notes, schedulerName="default-scheduler")
    if draw.random() < 0.3:
        body["spec"]["containers"].append(container("b", resources={"limits": limits()}))
    if draw.random() < 0.1:
        always = {"restartPolicy": "Always"} if draw.random() < 0.5 else {}
        body["spec"]["initContainers"] = [container("i", resources={"limits": limits()}, **always)]
    return body
