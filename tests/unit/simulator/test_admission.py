"""Admission of the embedded cluster: the chart's policies as validators."""

from typing import Any

import pytest

from tessera.kube.resources import DEPLOYMENTS, PODS, Resource, untyped
from tessera.simulator.admission import annotation_guard, needs_rewriting, slice_rules
from tessera.simulator.apiserver import Request

Plain = dict[str, Any]
POD = untyped(PODS)
BINDER = "system:serviceaccount:tessera-system:tessera-scheduler"
GOOD = {"tessera.io/gpu-mem": "4Gi", "tessera.io/slice": "1"}
guard = annotation_guard({BINDER})


def pod(limits: Plain, *, annotations: Plain | None = None, env: list[Plain] | None = None, **spec: Any) -> Plain:
    container = {"name": "main", "resources": {"limits": limits}, "env": env or []}
    meta = {"name": "p", "annotations": annotations or {}}
    return {"metadata": meta, "spec": {"containers": [container], "schedulerName": "tessera", **spec}}


def asked(
    obj: Plain,
    old: Plain | None = None,
    *,
    resource: Resource[Plain] = POD,
    user: str = "user",
    subresource: str = "",
) -> Request:
    return Request(obj, old, "UPDATE" if old else "CREATE", user, resource, subresource, "default", "p")


def deployment(limits: Plain, **meta: Any) -> Plain:
    return {"metadata": {"name": "d", **meta}, "spec": {"template": {"spec": pod(limits)["spec"]}}}


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (pod({**GOOD, "tessera.io/gpu-mem": "0"}), "spec.containers[main].resources.limits[tessera.io/gpu-mem]"),
        (pod({**GOOD, "tessera.io/gpu-mem": "100Ti"}), "spec.containers[main].resources.limits[tessera.io/gpu-mem]"),
        (pod({**GOOD, "tessera.io/gpu": "1"}), "not beside tessera.io/gpu"),
        (pod({"tessera.io/gpu-mem": "4Gi"}), "tessera.io/slice"),
        (pod(GOOD, nodeName="n"), "spec.nodeName"),
        (pod(GOOD, schedulerName="default-scheduler"), "spec.schedulerName"),
        (pod(GOOD, env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]), "env[NVIDIA_VISIBLE_DEVICES]"),
        (pod(GOOD, env=[{"name": "TESSERA_SLICE", "value": "x"}]), "env[TESSERA_SLICE]"),
    ],
)
def test_malformed_and_devious_pods_are_refused_with_the_field(obj: Plain, field: str) -> None:
    sentence = slice_rules(asked(obj))
    assert sentence is not None and field in sentence and "allowed" in sentence


def test_a_well_formed_pod_and_one_without_a_slice_pass() -> None:
    assert slice_rules(asked(pod(GOOD))) is None
    assert slice_rules(asked(pod({"cpu": "1"}, nodeName="n"))) is None


def test_a_template_is_judged_where_it_stands() -> None:
    bad = deployment({**GOOD, "tessera.io/gpu-mem": "-1"})
    assert str(slice_rules(asked(bad, resource=DEPLOYMENTS))).startswith("spec.template.spec.containers[main]")
    assert slice_rules(asked(deployment(GOOD), resource=DEPLOYMENTS)) is None


def test_a_bound_pod_passes_an_update_that_leaves_its_slice_alone() -> None:
    bound = pod(GOOD, nodeName="n", annotations={"tessera.io/assignment": "x"})
    assert slice_rules(asked(bound, bound)) is None
    assert guard(asked(bound, bound)) is None


def test_only_a_binding_of_the_binder_writes_the_systems_annotations() -> None:
    binding = {"metadata": {"name": "p", "annotations": {"tessera.io/assignment": "x"}}}
    assert guard(asked(binding, subresource="binding", user=BINDER)) is None
    assert "tessera.io/assignment" in str(guard(asked(binding, subresource="binding")))
    assert guard(asked(pod(GOOD, annotations={"state.tessera.io/a": "x"}))) is not None
    removed = guard(asked(pod(GOOD), pod(GOOD, annotations={"tessera.io/assignment": "x"}), user=BINDER))
    assert removed is not None and "removed" in removed


def test_only_objects_that_ask_for_a_slice_and_are_made_by_hand_meet_the_webhook() -> None:
    owner = [{"kind": "Deployment", "name": "d", "uid": "u", "controller": True}]
    assert needs_rewriting(asked(pod({"gpu-mem": "4Gi"})))
    assert needs_rewriting(asked(deployment({"gpu": 1}), resource=DEPLOYMENTS))
    assert not needs_rewriting(asked(pod({"cpu": "1"})))
    assert not needs_rewriting(asked(deployment({"gpu": 1}, ownerReferences=owner), resource=DEPLOYMENTS))
