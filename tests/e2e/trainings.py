"""A training on a slice elsewhere, and what is looked at while it runs and afterwards."""

from __future__ import annotations

import re

import pytest

from tests.e2e import torch_images
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.processes import wait_until
from tests.e2e.product.pooled import CLIENT, Pooled

TRAIN = """
import sys, time, torch
device, steps, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
torch.manual_seed(0)
inputs, wanted = torch.randn(64, 32).to(device), torch.randn(64, 1).to(device)
model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(steps):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), wanted)
    loss.backward()
    optimizer.step()
    print(f"loss {step} {loss.item():.5f}", flush=True)
    time.sleep(pause)
print("done", torch.cuda.is_available())
"""
STEPS = 40


def trainer(name: str, mem: str = "2Gi", pause_s: float = 0.0, steps: int = STEPS) -> Json:
    """Wants a slice elsewhere; prints a line a step."""
    container = pods.container(
        limits={"gpu-mem": mem, "gpu-core": 10}, command=command("cuda", steps, pause_s)
    ) | {"image": torch_images.TORCH}  # fmt: skip
    return pods.pod(name, container, annotations={"tessera.io/remote": "required"}, restartPolicy="Never")


def command(device: str, steps: int, pause_s: float) -> list[str]:
    return [torch_images.PYTHON, "-c", TRAIN, device, str(steps), str(pause_s)]


def losses(log: str) -> dict[int, float]:
    return {int(step): float(loss) for step, loss in re.findall(r"^loss (\d+) (\S+)$", log, re.MULTILINE)}


def ended(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def lease_of(pool: Pooled, pod: Json) -> Json:
    (found,) = [
        each for each in pool.leases() if each["spec"].get("client", {}).get("podUID") == pod["metadata"]["uid"]
    ]
    return found


def key_of(lease: Json) -> str:
    return f"{lease['metadata']['namespace']}/{lease['metadata']['name']}"


def executor_of(pool: Pooled, lease: Json) -> Json:
    wanted = lease["status"]["executor"]["uid"]
    (found,) = [each for each in pool.executors() if each["metadata"]["uid"] == wanted]
    return found


def nothing_is_left(pool: Pooled) -> bool:
    held = sum(
        int(gpu.get("allocatedBytes", 0))
        for node in pool.gpu_nodes().values()
        for gpu in node["status"].get("gpus", [])
    )
    folders = pool.cluster.nodes[CLIENT].home / "tessera" / "plugin" / "leases"
    kept = list(folders.iterdir()) if folders.exists() else []
    assert not pool.leases() and not pool.executors() and not held and not kept
    return True


def assert_same(log: str, expected: dict[int, float]) -> None:
    assert "done True" in log, log[-2000:]
    found = losses(log)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-3)


def trained(guest: Api, name: str) -> str:
    pod = guest.wait("Pod", name, ended, timeout_s=240)
    log = guest.log(name)
    assert pod["status"]["phase"] == "Succeeded", log[-3000:]
    return log


def middle(guest: Api, name: str) -> Json:
    """The pod, once it has done a quarter of its steps."""
    wait_until(f"{name} in mid-training", lambda: len(losses(guest.log(name))) >= STEPS // 4, timeout_s=180)
    return guest.get("Pod", name)


def sliceless(name: str) -> Json:
    """The same program on the CPU of a pod of the client node."""
    container = pods.container(command=command("cpu", STEPS, 0.0)) | {"image": torch_images.TORCH}
    return pods.pod(name, container, node=CLIENT, restartPolicy="Never")


def local_losses(guest: Api) -> dict[int, float]:
    """Of the same program without a slice."""
    guest.create(sliceless("local"))
    pod = guest.wait("Pod", "local", ended, timeout_s=120)
    found = losses(guest.log("local"))
    assert pod["status"]["phase"] == "Succeeded" and len(found) == STEPS
    return found
