"""The pure parts of the in-process API server."""

from typing import Any

import pytest

from tessera.simulator.apiserver import patching
from tessera.simulator.apiserver.answers import Refused
from tessera.simulator.apiserver.selectors import selecting
from tessera.simulator.apiserver.targets import target_of
from tessera.simulator.apiserver.validation import check_shape


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(target: Any, patch: Any, result: Any) -> None:
    assert patching.merge(target, patch) == result


def test_json_patches_leave_the_original_alone() -> None:
    target = {"a": [1, 2], "b": {"x/y": 1}}
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": "/a/-", "value": 3},
        {"op": "remove", "path": "/a/0"},
        {"op": "move", "from": "/b/x~1y", "path": "/c"},
        {"op": "copy", "from": "/a", "path": "/d"},
    ]
    assert patching.json_patch(target, operations) == {"a": [2, 3], "b": {}, "c": 1, "d": [2, 3]}
    assert target == {"a": [1, 2], "b": {"x/y": 1}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/a/7", "value": 1},
        {"op": "add", "path": "a", "value": 1},
        {"op": "jump", "path": "/a"},
    ],
)
def test_bad_json_patches_are_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        patching.json_patch({"a": []}, [operation])


def test_strategic_patches_join_containers_by_name() -> None:
    target = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}
    patch = {"containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}, {"name": "c"}]}
    joined = patching.strategic(target, patch)["containers"]
    assert joined == [{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}]}, {"name": "c"}]


def test_apply_takes_back_only_its_own() -> None:
    target = {"data": {"mine": "1", "theirs": "2"}, "spec": {"x": 1}}
    assert patching.apply(target, {"data": {"new": "3"}}, {"data": {"mine": "1"}}) == {
        "data": {"theirs": "2", "new": "3"},
        "spec": {"x": 1},
    }


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        ("a=1", True),
        ("a==1,b", True),
        ("a!=1", False),
        ("!c", True),
        ("a in (1, 2)", True),
        ("a notin (1,2)", False),
        ("c", False),
    ],
)
def test_label_selectors(labels: str, fits: bool) -> None:
    assert selecting(labels, "")({"metadata": {"labels": {"a": "1", "b": ""}}}) is fits


def test_urls() -> None:
    found = target_of("/api/v1/namespaces/ns/pods/a/binding")
    assert (found.plural, found.namespace, found.name, found.subresource) == ("pods", "ns", "a", "binding")
    found = target_of("/apis/tessera.io/v1alpha1/gpunodes/n/status")
    assert (found.plural, found.namespace, found.name, found.subresource) == ("gpunodes", "", "n", "status")
    found = target_of("/api/v1/namespaces/ns")
    assert (found.plural, found.namespace, found.name) == ("namespaces", "", "ns")
    with pytest.raises(Refused):
        target_of("/apis/nvidia.com/v1/things")


@pytest.mark.parametrize(
    "spec",
    [
        "x",
        {"containers": "x"},
        {"containers": ["x"]},
        {"containers": [{"name": "a", "resources": {"limits": "4Gi"}}]},
        {"containers": [{"name": 1}]},
    ],
)
def test_a_part_of_another_shape_is_a_bad_request_and_no_fault_of_the_server(spec: Any) -> None:
    for plural, kind, obj in (("pods", "Pod", {"spec": spec}), ("jobs", "Job", {"spec": {"template": {"spec": spec}}})):
        with pytest.raises(Refused) as caught:
            check_shape(plural, kind, obj)
        assert caught.value.code == 400 and kind in caught.value.message


def test_nulls_and_wrong_figures_have_the_right_shape() -> None:
    resources = {"limits": {"gpu-mem": {"a": 1}}, "requests": None}
    check_shape(
        "pods", "Pod", {"spec": {"initContainers": None, "containers": [{"name": "a", "resources": resources}]}}
    )
