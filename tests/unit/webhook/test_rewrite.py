"""What the webhook changes, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.scheduler.webhook.compatibility import Dialect
from tessera.scheduler.webhook.patches import applied
from tessera.scheduler.webhook.rewrite import TEMPLATES, Options, rewrite

Json = dict[str, Any]
MEM, CORE, COUNT, GPU, SLICE = (f"tessera.io/{n}" for n in ("gpu-mem", "gpu-core", "gpu-count", "gpu", "slice"))


def holding(kind: str, spec: Json, **metadata: Any) -> Json:
    """An object of that kind around a pod spec."""
    body: Json = spec
    for step in reversed(TEMPLATES[kind]):
        body = {step: body}
    return {"kind": kind, "metadata": metadata, **body}


def spec_of(obj: Json) -> Json:
    node = obj
    for step in TEMPLATES[obj["kind"]]:
        node = node[step]
    return node


def asking(limits: Json, **spec: Any) -> Json:
    return {"containers": [{"name": "a", "resources": {"limits": limits}}], **spec}


def stored(obj: Json, operation: str = "CREATE", options: Options | None = None) -> Json:
    return applied(obj, rewrite(obj, operation, options).patch)


def limits(obj: Json) -> Json:
    found: Json = spec_of(obj)["containers"][0]["resources"]["limits"]
    return found


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_short_form_is_accepted_wherever_a_template_stands(kind: str) -> None:
    obj = holding(kind, asking({"gpu-mem": "4Gi", "gpu-core": 30, "gpu-count": 2, "cpu": 1}))
    result = stored(obj)
    assert limits(result) == {MEM: "4Gi", CORE: 30, COUNT: 2, SLICE: "1", "cpu": 1}
    assert spec_of(result)["schedulerName"] == "tessera"
    assert limits(obj) == {"gpu-mem": "4Gi", "gpu-core": 30, "gpu-count": 2, "cpu": 1}, "the input is not touched"


def test_each_rename_is_warned_of_once_in_the_contracts_words() -> None:
    two = asking({"gpu-mem": "4Gi"})
    two["containers"].append({"name": "b", "resources": {"limits": {"gpu-mem": "1Gi"}, "requests": {"gpu-mem": "1Gi"}}})
    assert rewrite(holding("Pod", two), "CREATE").warnings == [
        "stored as tessera.io/gpu-mem; use this name in files kept in Git: "
        "removing the short key later does not remove the request"
    ]


def test_short_wins_over_qualified_in_limits_and_requests() -> None:
    both = {MEM: "4Gi", "gpu-mem": "8Gi", SLICE: "1"}
    spec = {"containers": [{"name": "a", "resources": {"limits": both, "requests": both}}]}
    for operation in ("CREATE", "UPDATE"):
        result = spec_of(stored(holding("Pod", spec), operation))["containers"][0]["resources"]
        assert result == {"limits": {MEM: "8Gi", SLICE: "1"}, "requests": {MEM: "8Gi", SLICE: "1"}}


def test_init_containers_and_sidecars_are_renamed_too() -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "i", "resources": {"limits": {"gpu": 1}}}]}
    result = spec_of(stored(holding("Pod", spec)))
    assert result["initContainers"][0]["resources"]["limits"] == {GPU: 1, SLICE: "1"}
    assert result["schedulerName"] == "tessera"


@pytest.mark.parametrize(
    ("named", "kept"), [(None, "tessera"), ("", "tessera"), ("default-scheduler", "tessera"), ("volcano", "volcano")]
)
def test_the_scheduler_is_named_only_where_none_was_chosen(named: str | None, kept: str) -> None:
    spec = asking({MEM: "1Gi", SLICE: "1"}, **({} if named is None else {"schedulerName": named}))
    assert spec_of(stored(holding("Pod", spec)))["schedulerName"] == kept
    assert not rewrite(holding("Pod", spec), "UPDATE").patch


def test_pods_and_jobs_are_only_renamed_on_update_so_that_they_compare_equal() -> None:
    for kind in ("Pod", "Job"):
        first = stored(holding(kind, asking({"gpu-mem": "4Gi"})))
        again = stored(holding(kind, {**spec_of(first), **asking({**limits(first), "gpu-mem": "4Gi"})}), "UPDATE")
        assert spec_of(again) == spec_of(first)
        before_us = holding(kind, asking({MEM: "4Gi"}))
        assert not rewrite(before_us, "UPDATE").patch, "a slot cannot be added to what is already stored"


def test_an_update_of_a_template_recomputes_the_slot() -> None:
    added = stored(holding("Deployment", asking({MEM: "4Gi"})), "UPDATE")
    assert limits(added) == {MEM: "4Gi", SLICE: "1"} and "schedulerName" not in spec_of(added)
    removed = stored(holding("Deployment", asking({SLICE: "1", "cpu": 1})), "UPDATE")
    assert limits(removed) == {"cpu": 1}


@pytest.mark.parametrize("slots", ["2", "0", "x"])
def test_a_slot_that_a_user_wrote_wrongly_is_left_for_the_policy(slots: str) -> None:
    assert limits(stored(holding("Pod", asking({MEM: "1Gi", SLICE: slots}))))[SLICE] == slots
    assert limits(stored(holding("Deployment", asking({SLICE: slots})), "UPDATE"))[SLICE] == slots
    assert not rewrite(holding("Pod", asking({SLICE: "1"})), "CREATE").patch


def test_what_a_controller_made_is_left_alone_but_its_pods_are_not() -> None:
    owner = [{"kind": "Deployment", "name": "d", "controller": True}]
    spec = asking({MEM: "4Gi"}, schedulerName="default-scheduler")
    assert not rewrite(holding("ReplicaSet", spec, ownerReferences=owner), "CREATE").patch
    assert rewrite(holding("Pod", spec, ownerReferences=owner), "CREATE").patch
    by_hand = [{"kind": "Application", "name": "app"}]
    assert rewrite(holding("ReplicaSet", spec, ownerReferences=by_hand), "CREATE").patch


def test_a_tainted_pool_is_tolerated_by_pods_with_a_slice_only() -> None:
    toleration = {"key": "tessera.io/gpu", "operator": "Exists", "effect": "NoSchedule"}
    tolerate = Options(tolerate=True)
    other = {"key": "x", "operator": "Exists"}
    pod = holding("Pod", asking({"gpu": 1}, tolerations=[other]))
    assert spec_of(stored(pod, options=tolerate))["tolerations"] == [other, toleration]
    assert spec_of(stored(stored(pod, options=tolerate), options=tolerate))["tolerations"] == [other, toleration]
    assert "tolerations" not in spec_of(stored(holding("Deployment", asking({"gpu": 1})), options=tolerate))
    assert not rewrite(holding("Pod", asking({"cpu": 1})), "CREATE", tolerate).patch


def test_pod_level_keys_are_told_of_and_left() -> None:
    answer = rewrite(holding("Pod", {"containers": [], "resources": {"limits": {"gpu-mem": "4Gi"}}}), "CREATE")
    assert not answer.patch
    assert answer.warnings == ["spec.resources.limits[gpu-mem]: found '4Gi'; allowed: slices in containers only"]


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"kind": "Pod"},
        {"kind": ["Pod"], "spec": {}},
        {"kind": "Pod", "spec": None},
        {"kind": "Pod", "spec": {"containers": None}},
        {"kind": "Pod", "spec": {"containers": "all"}},
        {"kind": "Pod", "spec": {"containers": [None, 3, {"resources": None}, {"resources": {"limits": []}}]}},
        {"kind": "Pod", "metadata": None, "spec": {"containers": [], "resources": 3}},
        {"kind": "Deployment", "metadata": {"ownerReferences": "x"}, "spec": {"template": {"spec": {}}}},
        {"kind": "CronJob", "spec": {"jobTemplate": {}}},
        {"kind": "Service", "spec": {"gpu-mem": "4Gi"}},
    ],
)
def test_odd_objects_are_left_alone(obj: Json) -> None:
    for operation in ("CREATE", "UPDATE", "DELETE", "CONNECT"):
        assert not rewrite(obj, operation).patch


def test_other_projects_names_need_the_switch() -> None:
    pod = holding("Pod", asking({"nvidia.com/gpu": 2, "nvidia.com/gpumem": 3000, "nvidia.com/gpucores": 30}))
    assert not rewrite(pod, "CREATE").patch
    result = stored(pod, options=Options(compatibility=frozenset({Dialect.HAMI})))
    assert limits(result) == {MEM: "6000Mi", CORE: "60", COUNT: "2", SLICE: "1"}


POOLED = Options(pool=True)


def mounts(container: Json) -> list[tuple[str, str, bool]]:
    return [(m["name"], m["mountPath"], m["readOnly"]) for m in container.get("volumeMounts", ())]


@pytest.mark.parametrize("may", ["allowed", "required"])
def test_a_pod_that_may_be_remote_gets_the_pools_token_where_it_has_slices(may: str) -> None:
    spec = asking({MEM: "4Gi"})
    spec["containers"].append({"name": "plain", "resources": {"limits": {"cpu": 1}}})
    spec["volumes"] = [{"name": "own", "emptyDir": {}}]
    result = stored(holding("Pod", spec, annotations={"tessera.io/remote": may}), options=POOLED)["spec"]
    token = {"audience": "tessera-pool", "expirationSeconds": 3600, "path": "token"}
    assert result["volumes"] == [
        {"name": "own", "emptyDir": {}},
        {"name": "tessera-pool-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
    asks, plain = result["containers"]
    assert mounts(asks) == [("tessera-pool-token", "/var/run/secrets/tessera", True)] and not mounts(plain)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_templates_and_all_other_pods_get_no_token(kind: str) -> None:
    for notes, options in (
        ({"tessera.io/remote": "never"}, POOLED),
        ({}, POOLED),
        ({"tessera.io/remote": "allowed"}, Options()),
    ):
        assert "volumes" not in spec_of(stored(holding(kind, asking({MEM: "4Gi"}), annotations=notes), options=options))
    notes = {"tessera.io/remote": "allowed"}
    made = stored(holding(kind, asking({MEM: "4Gi"}), annotations=notes), options=POOLED)
    assert ("volumes" in spec_of(made)) == (kind == "Pod")
    assert "volumes" not in spec_of(stored(holding("Pod", asking({MEM: "4Gi"}), annotations=notes), "UPDATE", POOLED))
