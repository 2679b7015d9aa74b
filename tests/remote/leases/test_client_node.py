"""A pod on a node without GPUs: kubelet, device plugin and CDI spec, then a program that knows nothing of ours, in an
image with PyTorch alone, through a gate to an executor."""

import json
import site
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tessera.kube.resources import GPU_LEASES
from tessera.model.gpu_leases import server_name
from tessera.remote.client.session import GRACE_S
from tests.integration.device_plugin.client_host import IMAGE, ClientHost
from tests.integration.device_plugin.host import eventually
from tests.remote.leases import stage
from tests.remote.leases.programs import Programs
from tests.remote.wire.certificates import Authority

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
PATIENCE_S = 120.0

PROGRAM = """
import json, torch
weights = torch.arange(6.0, device="cuda", requires_grad=True)
(weights * weights).sum().backward()
import tessera
print(json.dumps([str(weights.device), weights.grad.tolist(), tessera.__file__]), flush=True)
"""
SAID = ["cuda:0", [0.0, 2.0, 4.0, 6.0, 8.0, 10.0], "/opt/tessera-client/tessera/__init__.py"]
WAITS = """
import json, time
while json.load(open("/run/tessera/lease/lease.json"))["epoch"] < 2:
    time.sleep(0.02)
"""
STAYS = """
import json, torch
x = torch.ones(3, device="cuda")
print(json.dumps([x.sum().item()]), flush=True)
try:
    while True:
        x.sum().item()
except RuntimeError as error:
    print(error, flush=True)
"""
# Without the site's .pth files: an image has no package of ours.
PYTHON = [sys.executable, "-S", "-c"]


class Machine(ClientHost):
    """A client node whose containers run programs. Their image has PyTorch where its ``PYTHONPATH`` says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(prestart_deadline_s=20.0)
        self.signer = Authority(folder, "pool")
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        (self.secrets / "token").write_text("the pod's token\n")
        self.gate: stage.PoolGate | None = None
        self.controller = False

    def _make_runtime(self) -> Programs:
        self.reluctant = self.programs = Programs(self.secrets)
        return self.programs

    async def _before_plugin(self) -> None:
        await super()._before_plugin()
        self.authority.write_bytes(self.signer.cert.read_bytes())
        self.images.images[IMAGE] = [f"PYTHONPATH={site.getsitepackages()[0]}"]

    async def serve(self, pod: str, endpoint: str = "") -> None:
        """The pool's gate knows of the epoch before the node does."""
        assert self.gate
        self.gate.enter(self.epoch(pod) + 1)
        await super().serve(pod, self.gate.endpoint)

    @contextmanager
    def gate_of(self, pod: str, executor: Path) -> Iterator[stage.PoolGate]:
        """The gate of this pod's lease, from now on."""
        name = server_name(self.lease(pod)["metadata"]["uid"])
        with stage.gate(executor, self.signer.sign("executor", host=name)) as self.gate:
            yield self.gate

    def said(self, start: int) -> object:
        """What the program of this start printed, as long as it is nothing else."""
        found = self.programs.programs[start].lines if len(self.programs.programs) > start else []
        return json.loads(found[0]) if len(found) == 1 and found[0].startswith("[") else found


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Path]:
    with stage.executor(tmp_path) as at:
        yield at


async def test_an_untouched_program_computes_on_the_executor_and_each_start_has_its_own_epoch(
    tmp_path: Path, executor: Path
) -> None:
    async with Machine(tmp_path) as host:
        await host.place_leased("train", command=[*PYTHON, PROGRAM])
        with host.gate_of("train", executor) as gate:
            host.controller = True
            for start in (0, 1):
                await eventually(lambda start=start: host.said(start), f"start {start} says something", PATIENCE_S)
                assert host.said(start) == SAID
            lease = f"default/{host.lease('train')['metadata']['name']}"
            said = [(hello.token, hello.lease, hello.container, hello.epoch) for hello in gate.heard[:2]]
            assert said == [("the pod's token", lease, "main", epoch) for epoch in (1, 2)]


async def test_a_program_finds_the_executor_that_its_lease_has_got_meanwhile(tmp_path: Path, executor: Path) -> None:
    async with Machine(tmp_path) as host:
        await host.place_leased("train", command=[*PYTHON, WAITS + PROGRAM])
        with host.gate_of("train", executor) as former:
            await eventually(lambda: host.lease("train")["spec"].get("attach"), "attached")
            await host.serve("train")
            await eventually(lambda: host.programs.programs, "it runs")
        with host.gate_of("train", executor) as gate:
            await host.serve("train")
            await eventually(lambda: host.said(0), "it says something", PATIENCE_S)
            assert host.said(0) == SAID and gate.heard and not former.heard


async def test_a_program_whose_lease_is_deleted_stops_long_before_it_would_give_up(
    tmp_path: Path, executor: Path
) -> None:
    async with Machine(tmp_path) as host:
        await host.place_leased("train", command=[*PYTHON, STAYS])
        with host.gate_of("train", executor) as gate:
            host.controller = True
            await eventually(lambda: host.said(0) == [3.0], "it computes", PATIENCE_S)
            gate.front.stop()
            gate.front.cut()
            name, since = host.lease("train")["metadata"]["name"], time.monotonic()
            await host.gateway.delete(GPU_LEASES, name, namespace="default")
            await eventually(lambda: len(host.programs.programs[0].lines) > 1, "it is told", GRACE_S / 2)
            assert time.monotonic() - since < GRACE_S / 2
            said = f"the remote device was lost: lease default/{name}, epoch 1: GPULease default/{name} was deleted"
            assert host.programs.programs[0].lines[1] == said


async def test_its_files_cannot_be_written_by_the_program(tmp_path: Path, executor: Path) -> None:
    async with Machine(tmp_path) as host:
        tried = "for path in /run/tessera/lease /opt/tessera-client; do touch $path/x 2>/dev/null || echo no; done"
        await host.place_leased("train", command=["sh", "-c", f"{tried}; sleep 1000"])
        with host.gate_of("train", executor):
            host.controller = True
            await eventually(lambda: host.programs.programs and len(host.programs.programs[0].lines) == 2, "it tried")
            assert host.programs.programs[0].lines == ["no", "no"]
