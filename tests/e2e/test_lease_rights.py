"""Who may change what of a GPULease, on a real API server with the chart's policies and roles."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tessera.dashboard.auth import Mode
from tessera.dashboard.service import Service
from tessera.dashboard.settings import DashboardSettings
from tessera.kube.connection import connect
from tessera.settings import KubeSettings
from tests.e2e.admission import SYSTEM, Admission, refusal_of
from tests.e2e.admission_objects import CONTEXT_BYTES
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.lease_users import ALL_RIGHTS, LEASE, account, lease_of_a_pod, patched

pytestmark = pytest.mark.e2e


def test_a_client_node_attaches_leases_of_its_own_containers_and_changes_nothing_else(admission: Admission) -> None:
    api = admission.api
    for name in ("client", "elsewhere"):
        api.create(
            lease_of_a_pod(f"of-{name}", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
        )
    token = api.service_account_token("tessera-client-node", SYSTEM, {**api.get("Node", "client"), "kind": "Node"})
    plugin = admission.cluster.as_user(token)

    attach = {"spec": {"attach": {"device": "slot-000-1", "after": "former"}}}
    assert patched(plugin, "of-client", attach) == ""
    found = plugin.get("GPULease", "of-client", "default", version=LEASE)
    assert found["spec"]["attach"] == attach["spec"]["attach"]
    assert "allowed: the agent's own node, client" in patched(plugin, "of-elsewhere", attach)
    unbound = admission.cluster.as_user(api.service_account_token("tessera-client-node", SYSTEM))
    assert "allowed: a token bound to a pod on the agent's node" in patched(unbound, "of-client", attach)
    for change in (
        {"spec": {"slice": {"memoryBytes": 2}}},
        {"metadata": {"finalizers": []}},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"ownerReferences": []}},
    ):
        assert "allowed: spec.attach" in patched(plugin, "of-client", change), change
    assert "cannot patch resource" in patched(plugin, "of-client", {"status": {"phase": "Active"}}, "status")
    mine = {"version": LEASE, "everywhere": True, "fieldSelector": "spec.client.node=client"}
    assert [each["metadata"]["name"] for each in plugin.items("GPULease", **mine)] == ["of-client"]


def test_who_may_edit_a_namespace_reads_its_leases_and_ends_them(admission: Admission) -> None:
    api = admission.api
    api.create(lease_of_a_pod("whose", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "whose"}})))
    viewer, editor = (account(admission, role) for role in ("view", "edit"))

    def ended(by: Api) -> str:
        return refusal_of(lambda: by.delete("GPULease", "whose", "default", LEASE))

    def reads(by: Api) -> bool:
        return not refusal_of(lambda: by.get("GPULease", "whose", "default", LEASE))

    wait_until("the roles to be put together", lambda: reads(viewer) and reads(editor))
    assert "cannot delete resource" in ended(viewer)
    wait_until("the editor's right to delete", lambda: ended(editor) == "")
    kept = api.get("GPULease", "whose", "default", LEASE)["metadata"]
    assert kept["deletionTimestamp"] and kept["finalizers"] == ["pool.tessera.io/executor"]


def test_who_may_edit_a_namespace_says_which_size_its_leases_are_to_have_and_nothing_else(
    admission: Admission,
) -> None:
    api = admission.api
    api.create(lease_of_a_pod("sized", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sized"}})))
    viewer, editor = (account(admission, role) for role in ("view", "edit"))
    may_all = account(admission, "all", ALL_RIGHTS)
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
    whole = api.get("GPULease", "sized", "default", LEASE)
    whole["spec"]["wanted"] = {"memoryBytes": 1 << 33}
    assert may_all.replace(whole)["spec"]["wanted"] == {"memoryBytes": 1 << 33}


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
        admission.api.create(lease_of_a_pod("fixed", node))
    user = account(admission, "all", ALL_RIGHTS)

    wait_until("the rights", lambda: "cannot patch resource" not in patched(user, "fixed", body, sub))
    said = "gpuleases/status fixed: found UPDATE from " if sub else "gpuleases fixed: found a change beside spec.wanted"
    found = patched(user, "fixed", body, sub)
    assert said in found and "system:serviceaccount:default:all" in found


def test_leases_of_pods_are_made_by_the_system_only(admission: Admission) -> None:
    node = admission.api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "made"}})
    user = account(admission, "all", ALL_RIGHTS)
    said = str(wait_until("the rights", lambda: _said(admission.refusal(lease_of_a_pod("made", node), user))))
    assert "from system:serviceaccount:default:all; allowed: one with standing: true, wanted and stopped only" in said
    scheduler = admission.cluster.as_user(admission.api.service_account_token("tessera-scheduler", SYSTEM))
    assert admission.refusal(lease_of_a_pod("made", node), scheduler) == ""


def test_the_dashboard_changes_leases_with_the_rights_of_who_asks(admission: Admission) -> None:
    """It is an administrator itself here, which helps nobody."""
    api = admission.api
    api.create(lease_of_a_pod("asked", api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "asked"}})))
    viewer, editor = (account(admission, role) for role in ("view", "edit"))
    wait_until(
        "the rights", lambda: not _wanted(editor, "asked", None) and viewer.get("GPULease", "asked", version=LEASE)
    )
    answers = asyncio.run(_asked_of_dashboard(admission, viewer.token, editor.token))
    assert [status for status, _ in answers] == [401, 401, 403, 403, 400, 202, 202]
    nobody, forged, resized, ended, small, *_ = (text for _, text in answers)
    assert "found no bearer token" in nobody and "does not accept this token" in forged
    assert "cannot patch resource" in resized and "cannot delete resource" in ended
    assert "spec.wanted.memoryBytes: found 1048576; allowed: at least" in small
    found = api.get("GPULease", "asked", "default", LEASE)
    assert found["spec"]["wanted"] == {"memoryBytes": 16 << 30, "corePercent": 40}
    assert found["metadata"]["deletionTimestamp"]


async def _asked_of_dashboard(admission: Admission, viewer: str, editor: str) -> list[tuple[int, str]]:
    """Status and text of each answer."""
    settings = DashboardSettings(listen="127.0.0.1:0", auth=Mode.KUBERNETES)
    connection = connect(KubeSettings(kubeconfig=str(admission.cluster.kubeconfig)))
    path, large, small = "/api/v1/leases/default/asked", {"gpu-mem": "16Gi", "gpu-core": 40}, {"gpu-mem": "1Mi"}
    asked = (
        ("", large),
        ("forged", large),
        (viewer, large),
        (viewer, None),
        (editor, small),
        (editor, large),
        (editor, None),
    )
    answers = []
    async with Service(settings, connection) as service, aiohttp.ClientSession(service.url) as client:
        for token, body in asked:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            call = (
                client.post(f"{path}/resize", json=body, headers=headers)
                if body
                else client.delete(path, headers=headers)
            )
            async with call as answer:
                answers.append((answer.status, await answer.text()))
    return answers


def _said(refusal: str) -> str:
    """The policy's words; none while RBAC still refuses."""
    return "" if "cannot create resource" in refusal else refusal


def _sized(by: Api, wanted: Json | None) -> str:
    return _wanted(by, "sized", wanted)


def _wanted(by: Api, name: str, wanted: Json | None) -> str:
    return patched(by, name, {"spec": {"wanted": wanted}})
