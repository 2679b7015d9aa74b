"""A pod's slice on another node moves in mid-training: its GPU's node is drained, or its user wants more."""

from __future__ import annotations

import json
import subprocess

import pytest

from tessera.model.quantities import GIB
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import GPUS, LEASE, SPARE, Pooled
from tests.e2e.product.seen import given
from tests.e2e.test_moves import PLUGIN
from tests.e2e.trainings import assert_same, executor_of, lease_of, middle, nothing_is_left, trained, trainer

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]


def moved(pool: Pooled, before: Json, node: str = "", mem_bytes: int = 0) -> Json:
    """The lease, once it is on the node or as large, and nothing of the move is left to do."""
    meta = before["metadata"]
    found = pool.cluster.api.get("GPULease", meta["name"], meta["namespace"], version=LEASE)
    kept = found["spec"]["slice"]
    assert kept["node"] == node or kept["memoryBytes"] == mem_bytes, found
    assert "target" not in found["spec"] and "next" not in found["status"] and found["status"]["phase"] == "Active"
    assert [each["metadata"]["uid"] for each in pool.executors()] == [found["status"]["executor"]["uid"]]
    return found


def kubectl_tessera(pool: Pooled, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [PLUGIN, *arguments, "--kubeconfig", str(pool.cluster.kubeconfig)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def resize(pool: Pooled, pod: str, namespace: str, *options: str) -> subprocess.CompletedProcess[str]:
    return kubectl_tessera(pool, "resize", pod, "-n", namespace, *options)


def test_kubectl_drain_waits_for_the_sessions_and_the_training_goes_on(
    pooled: Pooled, guest: Api, local_losses: dict[int, float], reopened: None
) -> None:
    guest.create(trainer("drained", pause_s=1.0))
    lease = lease_of(pooled, middle(guest, "drained"))
    before = executor_of(pooled, lease)
    assert before["spec"]["nodeName"] == GPUS
    pooled.cordon(SPARE, closed=False)
    planned = kubectl_tessera(pooled, "drain-plan", f"node/{GPUS}", "-o", "json")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    (move,) = json.loads(planned.stdout)["moves"]
    assert (move["lease"], move["target"]) == (lease["metadata"]["name"], SPARE)
    chosen = "--pod-selector=app.kubernetes.io/component=pool-executor"  # the others are the suite's own
    drain = ("drain", GPUS, "--delete-emptydir-data", "--timeout=180s", chosen)
    done = pooled.cluster.kubectl().run(*drain, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before["metadata"]["uid"] not in [each["metadata"]["uid"] for each in pooled.executors()], (
        "it was the last to go"
    )
    after = wait_until("the lease on the other node", lambda: moved(pooled, lease, node=SPARE), timeout_s=60)
    assert after["status"]["epoch"] == lease["status"]["epoch"] + 1
    assert_same(trained(guest, "drained"), local_losses)
    pod = guest.get("Pod", "drained")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def test_a_user_who_wants_more_gets_it_in_mid_training_within_the_quota(
    pooled: Pooled, guest: Api, local_losses: dict[int, float]
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
             "spec": {"hard": {"requests.tessera.io/gpu-mem": "3Gi"}}}  # fmt: skip
    guest.create(quota)
    guest.create(trainer("larger", pause_s=1.0))
    lease = lease_of(pooled, middle(guest, "larger"))
    refused = resize(pooled, "larger", guest.namespace, "--gpu-mem", "4Gi", "--timeout", "3")
    assert refused.returncode == 3 and "gpus" in refused.stderr, refused.stderr
    guest.patch("ResourceQuota", "gpus", {"spec": {"hard": {"requests.tessera.io/gpu-mem": "4Gi"}}})
    done = resize(pooled, "larger", guest.namespace, "--gpu-mem", "4Gi", "--timeout", "120")
    assert done.returncode == 0, done.stderr
    after = wait_until("the larger slice", lambda: moved(pooled, lease, mem_bytes=4 * GIB), timeout_s=60)
    (share,) = given(executor_of(pooled, after), "executor")
    assert share.mem_bytes == 4 * GIB
    assert_same(trained(guest, "larger"), local_losses)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)
