"""The probe client on the fake CUDA driver, and what is concluded from what NVML tells of it."""

import sys
from pathlib import Path

import pytest

from tessera.node_agent.enforcement.mps_proof import MIB, SIZE, Proof
from tessera.node_agent.enforcement.mps_proven import Proven
from tessera.simulator.fakes.cuda import build
from tests.integration.node_agent.test_mps import GIB, GPU
from tests.integration.node_agent.test_mps import node as _node

CONTEXT = 300 * MIB
node = _node


class Driver:
    """NVML's word on a client: ``of_context`` at the first look, ``grown`` more after ``delay`` looks without news."""

    def __init__(self, of_context=CONTEXT, grown=SIZE, delay=0):
        self.of_context, self.grown, self.delay = of_context, grown, delay
        self.pids, self.looks = [], 0

    async def seen(self, uuid, pid):
        self.pids.append(pid)
        self.looks += 1
        if self.of_context is None or self.looks == 1:
            return self.of_context
        return self.of_context + (self.grown if self.looks > self.delay + 1 else 0)


@pytest.fixture
def around(machine):
    library = str(build.library_dir())
    return {"LD_LIBRARY_PATH": library, "TESSERA_FAKE_NVML_STATE": str(machine.path), "TESSERA_FAKE_CUDA": ""}


def gone(pid):
    return not Path(f"/proc/{pid}").exists()


async def prove(driver, around, **more):
    return await Proof(driver.seen, sight_s=0.5, **more).prove(GPU, around)


async def test_a_client_that_is_seen_to_grow_by_its_size_is_proof(around):
    driver = Driver(delay=2)
    assert await prove(driver, around) == ""
    assert len(set(driver.pids)) == 1 and gone(driver.pids[0])


@pytest.mark.parametrize("off", [-64 * MIB, 64 * MIB])
async def test_64_mib_more_or_less_are_as_good(around, off):
    assert await prove(Driver(grown=SIZE + off), around) == ""


@pytest.mark.parametrize(
    ("driver", "doubt"),
    [
        (Driver(of_context=None), "tells nothing of the probe client's own process"),
        (Driver(grown=0), "took 192 MiB and the driver told of 0 MiB"),
        (Driver(grown=SIZE - 65 * MIB), "took 192 MiB and the driver told of 127 MiB"),
        (Driver(grown=SIZE + 65 * MIB), "took 192 MiB and the driver told of 257 MiB"),
    ],
)
async def test_what_is_no_proof(around, driver, doubt):
    assert doubt in await prove(driver, around)


async def test_a_driver_that_refuses_the_client_is_named(around):
    broken = {**around, "TESSERA_FAKE_CUDA": "fail=cuMemAlloc_v2:1:2"}
    assert await prove(Driver(), broken) == "the probe client failed: cuMemAlloc_v2: CUDA error 2"


async def test_without_the_driver_s_library_there_is_no_proof(around):
    found = await prove(Driver(), {**around, "LD_LIBRARY_PATH": "/nonexistent"})
    assert found.startswith("the probe client failed: libcuda.so.1")


async def test_a_client_that_cannot_be_started_or_hangs_is_given_up(around, tmp_path):
    absent = str(tmp_path / "absent")
    assert "cannot be started: No such file" in await prove(Driver(), around, client=(absent,))
    told = tmp_path / "pid"
    hangs = (
        sys.executable,
        "-c",
        f"import os, signal; open({str(told)!r}, 'w').write(str(os.getpid())); signal.pause()",
    )
    found = await prove(Driver(), around, client=hangs, start_s=1.0)
    assert found == "the probe client came to no 'context' within 1 s"
    assert gone(told.read_text())


async def test_mps_is_granted_after_the_proof_once_for_each_driver(node, around, monkeypatch):
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    driver = Driver(grown=0)
    node.proof = Proof(driver.seen, sight_s=0.2)
    node.start()
    finding = await node.limiter.detect(GPU)
    assert (finding.level, "would not be watched" in finding.evidence) == (-1, True)
    driver.grown, driver.looks = SIZE, 0
    assert (await node.limiter.detect(GPU)).level == 1
    asked = driver.looks
    await node.limiter.prepare(node.give("a", GIB))
    node.fake.crash()
    await node.limiter.observe()
    assert (await node.limiter.detect(GPU)).level == 1
    node.start()
    assert (await node.limiter.detect(GPU)).level == 1
    assert driver.looks == asked, "neither another daemon nor another agent asks again"
    node.driver, driver.looks = "590.44", 0
    assert (await node.limiter.detect(GPU)).level == 1
    assert driver.looks > 0


def test_what_is_kept_holds_for_its_driver_only(tmp_path):
    proven = Proven(tmp_path / "proven")
    assert not proven.holds(GPU, "580.1")
    proven.add(GPU, "580.1")
    proven.add("GPU-b", "580.1")
    again = Proven(tmp_path / "proven")
    assert again.holds(GPU, "580.1") and again.holds("GPU-b", "580.1")
    assert not again.holds(GPU, "580.2") and not again.holds("GPU-c", "580.1")
    proven.add(GPU, "580.2")
    assert again.holds(GPU, "580.2") and not again.holds("GPU-b", "580.2")
    proven.add(GPU, "")
    assert not again.holds(GPU, "")
    (tmp_path / "proven").write_bytes(b"\xff\xfe\x00")
    assert not again.holds(GPU, "580.2")
