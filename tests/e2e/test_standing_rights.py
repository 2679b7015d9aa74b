"""What users may ask of a standing GPULease, on a real API server with the chart's policies and roles."""

from __future__ import annotations

import pytest

from tessera.model.quantities import GIB
from tests.e2e.admission import SYSTEM, Admission, refusal_of
from tests.e2e.admission_objects import CONTEXT_BYTES
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.lease_users import ALL_RIGHTS, LEASE, account, lease_of_a_pod, patched

pytestmark = pytest.mark.e2e
CLIENT = {"pod": "p", "podUID": "u", "container": "main", "node": "n"}
OTHER = {**CLIENT, "podUID": "v"}
ROOM = {"node": "far", "gpuUUID": "GPU-0", "memoryBytes": 2 * GIB}
ONLY = "allowed: one with standing: true, wanted and stopped only"
CHANGE = "found a change beside spec.wanted, spec.stopped and the removal of spec.client"


def standing(name: str, spec: Json | None = None, **metadata: object) -> Json:
    """One of 2 GiB; ``spec`` adds to it, and takes away what is ``None`` there."""
    whole: Json = {"standing": True, "wanted": {"memoryBytes": 2 * GIB}, **(spec or {})}
    return {"apiVersion": LEASE, "kind": "GPULease", "metadata": {"name": name, "namespace": "default", **metadata},
            "spec": {key: value for key, value in whole.items() if value is not None}}  # fmt: skip


@pytest.fixture
def viewer(admission: Admission) -> Api:
    return account(admission, "view")


@pytest.fixture
def editor(admission: Admission) -> Api:
    """Once the roles are put together."""
    found = account(admission, "edit")
    wait_until("the editor's rights", lambda: not admission.refusal(standing("none"), found))
    return found


@pytest.fixture
def may_all(admission: Admission) -> Api:
    found = account(admission, "all", ALL_RIGHTS)
    wait_until("the rights", lambda: not admission.refusal(standing("none"), found))
    return found


@pytest.fixture
def scheduler(admission: Admission) -> Api:
    return admission.cluster.as_user(admission.api.service_account_token("tessera-scheduler", SYSTEM))


@pytest.fixture
def lease(admission: Admission, editor: Api, request: pytest.FixtureRequest) -> Json:
    """One that its editor has made."""
    number = sum(each["metadata"]["name"].startswith("stands-") for each in _all(admission))
    return editor.create(standing(f"stands-{number}", labels={"team": "a"}))


def test_an_editor_makes_standing_leases_with_their_size_and_whether_they_are_stopped(
    admission: Admission, editor: Api, viewer: Api
) -> None:
    for name, spec in (("plain", {}), ("held", {"stopped": True}), ("capped", {"wanted": _size(GIB, 40)})):
        made = editor.create(standing(name, spec, annotations={"tessera.io/gpu-model": "L4"}))
        assert made["spec"]["standing"] is True and "status" not in made
        assert viewer.get("GPULease", name, "default", LEASE)["spec"] == made["spec"]
        assert "cannot delete resource" in _ended(viewer, name)
        assert _ended(editor, name) == ""
        assert not admission.api.find("GPULease", name, "default", LEASE), "nothing holds one that nobody serves"
    assert "cannot create resource" in admission.refusal(standing("plain"), viewer)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"client": CLIENT}, ONLY),
        ({"slice": ROOM}, ONLY),
        ({"target": ROOM}, ONLY),
        ({"attach": {"device": "slot-000-1"}}, ONLY),
        ({"standing": None, "client": CLIENT, "slice": ROOM}, ONLY),
        ({"standing": False, "client": CLIENT, "slice": ROOM}, ONLY),
        ({"standing": None}, "found no client or no slice; allowed: only with standing: true"),
        ({"wanted": None}, "spec.wanted: found none; allowed: the size, with standing: true"),
        ({"wanted": {"corePercent": 40}}, "spec.wanted.memoryBytes: Required value"),
        ({"wanted": {"memoryBytes": CONTEXT_BYTES - (1 << 20)}}, "found 267386880; allowed: at least 256Mi"),
        ({"wanted": {"memoryBytes": GIB + 1}}, "should be a multiple of 1048576"),
        ({"stopped": True, "client": CLIENT}, "spec.stopped: found a pod that uses it"),
    ],
    ids=lambda found: ",".join(found) if isinstance(found, dict) else "",
)
def test_what_is_the_systems_is_in_no_lease_that_a_user_makes(
    admission: Admission, editor: Api, may_all: Api, spec: Json, says: str
) -> None:
    for by in (editor, may_all):
        assert says in admission.refusal(standing("made", spec), by)


def test_no_user_holds_a_lease_that_is_to_go(admission: Admission, editor: Api, may_all: Api) -> None:
    held = standing("made", finalizers=["pool.tessera.io/executor"])
    for by in (editor, may_all):
        said = admission.refusal(held, by)
        assert "metadata.finalizers: found pool.tessera.io/executor" in said and "allowed: none" in said


def test_an_editor_takes_the_pod_off_a_lease_and_puts_none_on_it(
    editor: Api, may_all: Api, scheduler: Api, lease: Json
) -> None:
    name = lease["metadata"]["name"]
    for by in (editor, may_all):
        assert CHANGE in patched(by, name, {"spec": {"client": CLIENT}})
        assert CHANGE in patched(by, name, {"spec": {"attach": {"device": "slot-000-1"}}})
    assert patched(scheduler, name, {"spec": {"client": CLIENT}}) == ""
    for by in (editor, may_all, scheduler):
        assert "spec.client never changes" in patched(by, name, {"spec": {"client": OTHER}})
    assert "spec.stopped: found a pod that uses it" in patched(editor, name, {"spec": {"stopped": True}})
    assert patched(scheduler, name, {"spec": {"attach": {"device": "slot-000-1"}}}) == ""
    for by in (editor, may_all):
        assert CHANGE in patched(by, name, {"spec": {"attach": None}}), (
            "the start of a container goes with its pod only"
        )
    assert patched(editor, name, {"spec": {"client": None, "attach": None}}) == ""
    assert "client" not in editor.get("GPULease", name, "default", LEASE)["spec"]
    assert patched(scheduler, name, {"spec": {"client": OTHER}}) == "", "another may use it then"
    assert patched(editor, name, {"spec": {"client": None, "stopped": True}}) == "", "both at once are allowed"
    assert "spec.stopped: found a pod that uses it" in patched(scheduler, name, {"spec": {"client": CLIENT}})
    assert patched(editor, name, {"spec": {"stopped": None}}) == ""
    assert patched(scheduler, name, {"spec": {"client": CLIENT}}) == ""


def test_an_editor_writes_size_stop_labels_and_annotations_and_nothing_else(
    editor: Api, viewer: Api, may_all: Api, scheduler: Api, lease: Json
) -> None:
    name = lease["metadata"]["name"]
    assert patched(scheduler, name, {"spec": {"target": ROOM}}) == ""
    for change in (
        {"spec": {"wanted": _size(4 * GIB, 20)}},
        {"spec": {"stopped": True}},
        {"spec": {"stopped": False}},
        {"spec": {"stopped": None}},
        {"metadata": {"labels": {"team": "b"}}},
        {"metadata": {"annotations": {"tessera.io/gpu-model": "L4"}}},
    ):
        assert "cannot patch resource" in patched(viewer, name, change)
        assert patched(editor, name, change) == "", change
    for change, says in (
        ({"spec": {"standing": None}}, "spec.standing never changes"),
        ({"spec": {"standing": False}}, "spec.standing never changes"),
        ({"spec": {"wanted": None}}, "spec.wanted: found none; allowed: the size"),
        ({"spec": {"slice": ROOM}}, CHANGE),
        ({"spec": {"target": None}}, CHANGE),
        ({"spec": {"target": {"memoryBytes": GIB}}}, CHANGE),
        ({"metadata": {"finalizers": ["a.io/b"]}}, CHANGE),
        ({"metadata": {"ownerReferences": [_owner(lease)]}}, CHANGE),
    ):
        for by in (editor, may_all):
            assert says in patched(by, name, change), change
    status: Json = {"status": {"phase": "Detached", "epoch": 9, "client": "v"}}
    assert "cannot patch resource" in patched(editor, name, status, "status")
    assert "allowed: to the system only" in patched(may_all, name, status, "status")
    assert patched(may_all, name, status) == "" and "status" not in may_all.get("GPULease", name, "default", LEASE)


def test_labels_and_annotations_of_a_lease_made_for_a_pod_stay(admission: Admission, editor: Api) -> None:
    node = admission.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "labelled"}})
    admission.api.create(lease_of_a_pod("labelled", node))
    for change in ({"labels": {"team": "b"}}, {"annotations": {"tessera.io/gpu-model": "L4"}}):
        said = patched(editor, "labelled", {"metadata": change})
        assert "found a change beside spec.wanted from system:serviceaccount:default:edit; allowed: these only" in said
    assert "spec.standing never changes" in patched(editor, "labelled", {"spec": {"standing": True}})
    for spec in ({"stopped": True}, {"client": None}, {"slice": None}):
        assert "allowed: only with standing: true" in patched(editor, "labelled", {"spec": spec}), spec


def test_a_client_node_attaches_a_lease_that_a_container_of_its_own_uses(
    admission: Admission, scheduler: Api, lease: Json
) -> None:
    api, name = admission.api, lease["metadata"]["name"]
    node = api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"generateName": "client-"}})
    token = api.service_account_token("tessera-client-node", SYSTEM, {**node, "kind": "Node"})
    plugin, attach = admission.cluster.as_user(token), {"spec": {"attach": {"device": "slot-000-1"}}}
    assert "allowed: the agent's own node" in patched(plugin, name, attach), "of no pod's"
    used = {"spec": {"client": {**CLIENT, "node": node["metadata"]["name"]}}}
    assert patched(scheduler, name, used) == ""
    assert patched(plugin, name, attach) == ""
    for change in ({"client": None}, {"stopped": True}, {"standing": None}, {"wanted": _size(GIB)}):
        assert patched(plugin, name, {"spec": change}), change


def _all(admission: Admission) -> list[Json]:
    return admission.api.items("GPULease", "default", LEASE)


def _ended(by: Api, name: str) -> str:
    return refusal_of(lambda: by.delete("GPULease", name, "default", LEASE))


def _size(mem_bytes: int, core_percent: int = 0) -> Json:
    return {"memoryBytes": mem_bytes, "corePercent": core_percent}


def _owner(lease: Json) -> Json:
    return {"apiVersion": LEASE, "kind": "GPULease", "name": "other", "uid": lease["metadata"]["uid"]}
