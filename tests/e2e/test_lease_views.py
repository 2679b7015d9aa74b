"""Real leases as the dashboard and ``kubectl tessera`` show them, and the end of one that its user asks for."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tessera.dashboard.service import Service
from tessera.dashboard.settings import DashboardSettings
from tessera.dashboard.states import Snapshot
from tessera.kube.connection import connect
from tessera.model.quantities import GIB
from tessera.settings import KubeSettings
from tests.e2e.cluster.api import Api
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.chart import NAMESPACE
from tests.e2e.product.pooled import CLIENT, GPUS, LEASE, Pooled
from tests.e2e.standing_leases import editor
from tests.e2e.test_moves import PLUGIN
from tests.e2e.trainings import executor_of, lease_of, middle, nothing_is_left, trainer

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]


def plugin(config: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PLUGIN, *argv, "--kubeconfig", str(config)], capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip


async def shown(config: Path, lease: str) -> Snapshot:
    """What a dashboard with the rights of the chart's shows, once it shows ``lease`` with its executor."""
    settings = DashboardSettings(listen="127.0.0.1:0", auth="none")  # type: ignore[arg-type]
    async with Service(settings, connect(KubeSettings(kubeconfig=str(config)))) as service:
        async with asyncio.timeout(30):
            while not ((found := service.feed.snapshot.leases.get(lease)) and found.phase == "Active"):
                await service.feed.moved(1.0)
        return service.feed.snapshot


def test_who_looks_sees_the_slice_once_and_whose_it_is(pooled: Pooled, guest: Api) -> None:
    guest.create(trainer("seen", pause_s=0.2))
    lease = lease_of(pooled, middle(guest, "seen"))
    executor = executor_of(pooled, lease)["metadata"]["name"]
    key = f"{guest.namespace}/{lease['metadata']['name']}"
    found = asyncio.run(shown(pooled.cluster.service_account("tessera-dashboard", NAMESPACE), key))
    uuid = lease["spec"]["slice"]["gpuUUID"]
    (tenant,) = [t for t in found.gpus[uuid].tenants if t.namespace == guest.namespace]
    assert (tenant.pod, tenant.lease, tenant.executor) == ("seen", key, f"{NAMESPACE}/{executor}")
    assert found.gpus[uuid].allocated_bytes == 2 * GIB
    assert (found.nodes[CLIENT].used_slots, found.nodes[CLIENT].gpus, found.totals.nodes) == (
        1,
        0,
        len(pooled.gpu_nodes()) - 1,
    )
    listed = plugin(pooled.cluster.kubeconfig, "lease", "list", "-n", guest.namespace, "-o", "json")
    (row,) = json.loads(listed.stdout)["items"]
    assert (row["pod"], row["client_node"], row["node"], row["phase"]) == ("seen", CLIENT, GPUS, "Active")
    story = plugin(pooled.cluster.kubeconfig, "explain", key.split("/")[0] + "/seen")
    assert f"on {GPUS}" in story.stdout and f"executor {NAMESPACE}/{executor}" in story.stdout, story.stderr


def test_who_deletes_a_lease_ends_its_program_and_is_given_no_other(pooled: Pooled, guest: Api) -> None:
    restarts = trainer("ended", pause_s=0.2, steps=400)
    restarts["spec"]["restartPolicy"] = "OnFailure"
    guest.create(restarts)
    lease = lease_of(pooled, middle(guest, "ended"))
    name = lease["metadata"]["name"]
    guest.create(*editor(guest.namespace))
    config = pooled.cluster.service_account("editor", guest.namespace)
    done = wait_until("the right to delete", lambda: _deleted(config, guest.namespace, name))
    assert done.stdout == f"GPULease {guest.namespace}/{name}: its end was asked for\n"
    wait_until("the lease to be gone", lambda: not guest.find("GPULease", name, version=LEASE), timeout_s=60)
    pod = guest.wait("Pod", "ended", lambda p: p["status"].get("phase") == "Failed", timeout_s=120)
    former = pooled.cluster.nodes[CLIENT].container_log(pod, attempt=0)
    assert f"DeviceLostError: the remote device was lost: lease {guest.namespace}/{name}" in former, former[-3000:]
    told = _events(guest, "ended")
    assert any(word in told for word in ("found it released", "found none; allowed")), "why it does not start anew"
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def _events(guest: Api, pod: str) -> str:
    said = guest.items("Event", fieldSelector=f"involvedObject.name={pod}")
    return "\n".join(each.get("message", "") for each in said)


def _deleted(config: Path, namespace: str, name: str) -> subprocess.CompletedProcess[str] | None:
    done = plugin(config, "lease", "delete", name, "-n", namespace)
    return done if done.returncode == 0 else None
