"""A pod in an image with PyTorch and nothing of ours, on a node without a GPU, trains on a slice of another node."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tessera.model.quantities import GIB
from tessera.remote.protocol.streams import GONE_S
from tests.e2e import torch_images
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, ApiError, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import CLIENT, GPUS, Pooled
from tests.e2e.product.seen import bytes_by_gpu, given
from tests.e2e.trainings import (
    STEPS,
    assert_same,
    ended,
    executor_of,
    key_of,
    lease_of,
    losses,
    middle,
    nothing_is_left,
    trained,
    trainer,
)  # fmt: skip

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(600)]

LEASES = int(os.environ.get("TESSERA_E2E_LEASES", "10"))
"""How many come and go in one test, of which nothing may be left."""


def pids(pod: Json, word: str) -> list[int]:
    """Processes of the pod with ``word`` in their command lines, as the host has them."""
    uid, found = pod["metadata"]["uid"], []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            cgroups, line = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if (uid in cgroups or uid.replace("-", "_") in cgroups) and word.encode() in line:
            found.append(int(folder.name))
    return found


def kill9(pod: Json, word: str) -> None:
    found = pids(pod, word)
    assert found, f"no process of {pod['metadata']['name']} has {word!r} in its command line"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def test_it_trains_as_it_would_on_a_gpu_of_its_own(pooled: Pooled, guest: Api, local_losses: dict[int, float]) -> None:
    guest.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
                  "spec": {"hard": {"requests.tessera.io/gpu-mem": "3Gi"}}})  # fmt: skip
    guest.create(trainer("remote", pause_s=0.1))
    pod = middle(guest, "remote")
    assert pod["spec"]["nodeName"] == CLIENT
    lease = lease_of(pooled, pod)
    assert lease["spec"]["slice"]["node"] == GPUS and lease["spec"]["slice"]["memoryBytes"] == 2 * GIB
    executor = executor_of(pooled, lease)
    assert executor["spec"]["nodeName"] == GPUS
    (share,) = given(executor, "executor")
    assert (share.uuid, share.mem_bytes) == (lease["spec"]["slice"]["gpuUUID"], 2 * GIB)
    assert bytes_by_gpu(pooled.executors())[share.uuid] == 2 * GIB
    wait_until("the GPU's node to show it", lambda: _allocated(pooled, share.uuid) == 2 * GIB)
    quota = guest.get("ResourceQuota", "gpus")
    assert quota["status"]["used"]["requests.tessera.io/gpu-mem"] == "2Gi"
    with pytest.raises(ApiError, match="exceeded quota"):
        guest.create(trainer("another"))
    assert_same(trained(guest, "remote"), local_losses)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=90)


def _allocated(pool: Pooled, uuid: str) -> int:
    gpus = pool.gpu_nodes()[GPUS]["status"]["gpus"]
    return next(int(gpu.get("allocatedBytes", 0)) for gpu in gpus if gpu["uuid"] == uuid)


def test_a_program_whose_executor_is_killed_is_told_so_and_the_next_start_has_another(
    pooled: Pooled, guest: Api
) -> None:
    restarts = trainer("again", pause_s=0.2)
    restarts["spec"]["restartPolicy"] = "OnFailure"
    guest.create(restarts)
    pod = middle(guest, "again")
    lease = lease_of(pooled, pod)
    kill9(executor_of(pooled, lease), "serve --socket")
    node, told = pooled.cluster.nodes[CLIENT], f"DeviceLostError: the remote device was lost: lease {key_of(lease)}"
    wait_until("the program to be told", lambda: told in node.container_log(pod, attempt=0), timeout_s=60)
    again = guest.wait("Pod", "again", ended, timeout_s=240)
    assert (again["status"]["phase"], again["status"]["containerStatuses"][0]["restartCount"]) == ("Succeeded", 1)
    assert len(losses(guest.log("again"))) == STEPS


@pytest.mark.parametrize("name", ["plugin-node-b", "plugin-node-a", "agent-node-a", "pool-controller", "scheduler"])
def test_a_part_of_ours_that_is_killed_in_mid_training_is_not_noticed(
    pooled: Pooled, guest: Api, local_losses: dict[int, float], name: str
) -> None:
    guest.create(trainer("steady", pause_s=0.1))
    middle(guest, "steady")
    process = pooled.processes[name]
    process.kill9()
    process.start().wait_ready()
    assert_same(trained(guest, "steady"), local_losses)


def test_hosts_whose_links_are_cut_come_back_and_nothing_is_lost(
    pooled: Pooled, guest: Api, local_losses: dict[int, float]
) -> None:
    """Once for as long as TCP bridges, once for so long that the connection is given up, and a try to make it anew."""
    guest.create(trainer("link", pause_s=0.4))
    pod = middle(guest, "link")
    epoch = lease_of(pooled, pod)["status"]["epoch"]
    for node, seconds in ((CLIENT, 3), (GPUS, GONE_S + 8)):
        before = losses(guest.log("link"))
        pooled.cut(node, seconds)
        wait_until("it to go on", lambda before=before: losses(guest.log("link")).keys() > before.keys())  # type: ignore[misc]
    assert lease_of(pooled, pod)["status"]["epoch"] == epoch
    log = trained(guest, "link")
    assert "the remote device is back after" in log
    assert_same(log, local_losses)


@pytest.mark.timeout(1800)
def test_many_leases_leave_nothing(pooled: Pooled, guest: Api) -> None:
    container = pods.container(limits={"gpu-mem": "256Mi"}, command=["true"]) | {"image": torch_images.TORCH}
    pod = pods.pod("short", container, annotations={"tessera.io/remote": "required"}, restartPolicy="Never")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "short"},
           "spec": {"completions": LEASES, "parallelism": 6,
                    "template": {"metadata": pod["metadata"] | {"name": ""}, "spec": pod["spec"]}}}  # fmt: skip
    guest.create(job)
    guest.wait("Job", "short", lambda j: j["status"].get("succeeded") == LEASES, version="batch/v1", timeout_s=1500)
    wait_until("nothing to be left", lambda: nothing_is_left(pooled), timeout_s=120)
