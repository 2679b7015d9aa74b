"""What users ask of leases of their own, by command and over REST, on a real API server with the chart's roles and
policies. What the system says of them is written by an administrator here."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tessera.dashboard.auth import Mode
from tessera.dashboard.service import Service
from tessera.dashboard.settings import DashboardSettings
from tessera.kube.connection import connect
from tessera.settings import KubeSettings
from tests.e2e.admission import Admission
from tests.e2e.admission_objects import MEM, pod
from tests.e2e.cluster.api import Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.test_moves import PLUGIN

pytestmark = pytest.mark.e2e
LEASE = "tessera.io/v1alpha1"
CLIENT = {"pod": "train", "podUID": "uid", "container": "main", "node": "cpu-1"}
SLICE = {"node": "far", "gpuUUID": "GPU-0", "memoryBytes": 8 << 30, "corePercent": 30}
Done = subprocess.CompletedProcess[str]


def lease(config: Path, *argv: str) -> Done:
    return subprocess.run([PLUGIN, "lease", *argv, "--kubeconfig", str(config)], capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip


def may(admission: Admission, role: str) -> Path:
    """The kubeconfig of an account of namespace default with Kubernetes' own ``role`` there."""
    meta, rbac = {"name": f"verbs-{role}", "namespace": "default"}, "rbac.authorization.k8s.io"
    if not admission.api.find("ServiceAccount", meta["name"], "default"):
        admission.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
                             {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": meta,
                              "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
                              "subjects": [{"kind": "ServiceAccount", **meta}]})  # fmt: skip
    return admission.cluster.service_account(meta["name"], "default")


def stored(admission: Admission, name: str) -> Json:
    found: Json = admission.api.get("GPULease", name, "default", LEASE)
    return found


def made(admission: Admission, name: str, *argv: str) -> Path:
    """An editor's kubeconfig, once it has made that lease."""
    editor = may(admission, "edit")

    def asked() -> Done | None:
        done = lease(editor, "create", name, "--gpu-mem", "8Gi", "--gpu-core", "30", *argv, "--no-wait")
        return None if "cannot create resource" in done.stderr else done

    done = wait_until("the right to make leases", asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"GPULease default/{name}: 8Gi, 30% of its compute, were asked for\n"
    return editor


def used(admission: Admission, name: str, client: Json | None = CLIENT) -> None:
    """As the system says it."""
    act = {"namespace": "default", "version": LEASE}
    admission.api.patch("GPULease", name, {"spec": {"client": client, "slice": SLICE}}, **act)
    phase = {"status": {"phase": "Active" if client else "Detached", "epoch": 1}}
    admission.api.patch("GPULease", name, phase, **act, sub="status")


def test_who_may_edit_a_namespace_makes_leases_of_its_own(admission: Admission) -> None:
    editor = made(admission, "mine", "--gpu-model", "A100", "--annotation", "tessera.io/placement=pack")
    found = stored(admission, "mine")
    assert found["spec"] == {"standing": True, "wanted": {"memoryBytes": 8 << 30, "corePercent": 30}}
    assert found["metadata"]["annotations"] == {"tessera.io/gpu-model": "A100", "tessera.io/placement": "pack"}
    for argv, says in (
        (["mine", "--gpu-mem", "8Gi"], 'gpuleases.tessera.io "mine" already exists'),
        (["Mine", "--gpu-mem", "8Gi"], "a lowercase RFC 1123 subdomain"),
        (["small", "--gpu-mem", "1Mi"], "spec.wanted.memoryBytes: found 1048576; allowed: at least"),
        (["elsewhere/mine", "--gpu-mem", "8Gi"], "cannot create resource"),
    ):
        refused = lease(editor, "create", *argv, "--no-wait")
        assert refused.returncode == 1 and says in refused.stderr and refused.stderr.startswith("error: ")
        assert refused.stderr.count("\n") == 1
    viewer = lease(may(admission, "view"), "create", "theirs", "--gpu-mem", "8Gi", "--no-wait")
    assert viewer.returncode == 1 and "cannot create resource" in viewer.stderr


def test_it_is_served_used_left_stopped_started_and_ended(admission: Admission) -> None:
    editor = made(admission, "course")
    used(admission, "course", None)
    served = lease(editor, "start", "course", "-o", "json")
    assert (served.returncode, json.loads(served.stdout)["phase"]) == (0, "Detached")
    used(admission, "course")
    refused = lease(editor, "stop", "course")
    assert refused.returncode == 1 and "found 'one used by pod train'; allowed: one that no pod uses" in refused.stderr
    left = lease(editor, "detach", "course")
    assert (left.returncode, left.stderr) == (0, "pod default/train stays, without this slice\n")
    assert left.stdout == "GPULease default/course is for no pod now\n"
    assert "client" not in stored(admission, "course")["spec"] and stored(admission, "course")["spec"]["slice"] == SLICE
    late = lease(editor, "stop", "course", "--timeout", "1")
    assert (late.returncode, stored(admission, "course")["spec"]["stopped"]) == (3, True)
    act = {"namespace": "default", "version": LEASE}
    admission.api.patch("GPULease", "course", {"spec": {"slice": None}}, **act)
    admission.api.patch("GPULease", "course", {"status": {"phase": "Stopped"}}, **act, sub="status")
    assert lease(editor, "stop", "course").returncode == 0
    assert "Stopped" in lease(editor, "list").stdout
    assert lease(editor, "start", "course", "--no-wait").returncode == 0
    assert "stopped" not in stored(admission, "course")["spec"]
    ended = lease(editor, "delete", "course")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert admission.api.find("GPULease", "course", "default", LEASE) is None


def test_a_pod_that_waits_at_its_gate_is_told_its_lease(admission: Admission) -> None:
    editor = made(admission, "awaited")
    gate, notes = {"name": "tessera.io/gpu-lease"}, {"tessera.io/remote": "required"}
    gates = [gate, {"name": "example.com/other"}]
    admission.api.create(pod({MEM: "4Gi"}, name="gated", notes=notes, schedulingGates=gates))
    told = lease(editor, "attach", "awaited", "gated")
    said = "pod default/gated uses GPULease default/awaited once it is placed, which waits until the lease has room\n"
    assert (told.returncode, told.stdout) == (0, said), told.stderr
    found = admission.api.get("Pod", "gated", "default")
    assert found["metadata"]["annotations"]["tessera.io/gpu-lease"] == "awaited"
    assert found["spec"]["schedulingGates"] == [{"name": "example.com/other"}]
    again = lease(editor, "attach", "awaited", "gated")
    assert again.returncode == 0, again.stderr
    admission.api.create(pod({MEM: "4Gi"}, name="last", notes=notes, schedulingGates=[gate]))
    assert lease(editor, "attach", "awaited", "last").returncode == 0
    assert not admission.api.get("Pod", "last", "default")["spec"].get("schedulingGates")


def test_the_dashboard_asks_with_the_rights_of_who_asks(admission: Admission) -> None:
    """It is an administrator itself here, which helps nobody."""
    made(admission, "first")
    used(admission, "first")
    wait_until("the right to read", lambda: lease(may(admission, "view"), "get", "first").returncode == 0)
    tokens = [admission.api.service_account_token(f"verbs-{role}", "default") for role in ("view", "edit")]
    viewer, editor = tokens
    body = {"name": "rest", "gpu-mem": "8Gi"}
    answers = asyncio.run(
        _answers(
            admission,
            (viewer, "", body), (viewer, "/first/detach", None), (editor, "/first/stop", None),
            (editor, "/first/detach", None), (editor, "/first/stop", None), (editor, "/first/start", None),
            (editor, "", {**body, "gpu-mem": "1Mi"}), (editor, "", body), (editor, "", body),
            (editor, "/rest/attach", {"pod": "nobody"}),
        )
    )  # fmt: skip
    assert [status for status, _ in answers] == [403, 403, 409, 202, 202, 202, 400, 201, 409, 404]
    assert "cannot create resource" in answers[0][1] and "cannot patch resource" in answers[1][1]
    assert stored(admission, "rest")["spec"]["wanted"]["memoryBytes"] == 8 << 30
    spec = stored(admission, "first")["spec"]
    assert "client" not in spec and "stopped" not in spec


async def _answers(admission: Admission, *asked: tuple[str, str, Json | None]) -> list[tuple[int, str]]:
    """Status and text of each answer, one after the other."""
    settings = DashboardSettings(listen="127.0.0.1:0", auth=Mode.KUBERNETES)
    connection = connect(KubeSettings(kubeconfig=str(admission.cluster.kubeconfig)))
    answers = []
    async with Service(settings, connection) as service, aiohttp.ClientSession(service.url) as client:
        for token, path, body in asked:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            sent = json.dumps(body) if body else None
            async with client.post(f"/api/v1/leases/default{path}", data=sent, headers=headers) as answer:
                answers.append((answer.status, await answer.text()))
    return answers
