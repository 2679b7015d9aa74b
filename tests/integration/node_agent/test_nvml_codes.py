"""Every error code of NVML from every call of an agent that has slices: it stays up, it says which error it is, nothing
is placed where nobody watches, all is well again when the calls succeed, and after a grace no container runs where
nobody sees it but one that something else holds."""

from functools import partial

import pynvml
import pytest

from tessera.kube.resources import EVENTS, untyped
from tessera.model.assignment import Share
from tessera.node_agent.settings import NodeAgentSettings
from tessera.node_agent.slices import Refusal, Slice
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.node_agent.test_cluster import agent
from tests.integration.node_agent.test_cluster import until as until_told
from tests.integration.node_agent.test_service import CONTAINER, GIB, POD, Host

CODES = sorted({value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")})
TIMEOUT, NOT_OFFERED = 10, {3, 13, 25}

UNHEALTHY = {
    ("nvmlDeviceGetCount_v2",): set(),
    ("nvmlDeviceGetHandleByIndex_v2",): set(),
    ("nvmlDeviceGetUUID",): set(),
    ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo"): set(),
    ("nvmlDeviceGetMemoryInfo_v2",): NOT_OFFERED,
    ("nvmlDeviceGetMigMode",): NOT_OFFERED,
    ("nvmlEventSetWait_v2",): {TIMEOUT, *NOT_OFFERED},
    ("nvmlEventSetWait_v2", "nvmlEventSetCreate"): {TIMEOUT, *NOT_OFFERED},
    ("nvmlEventSetWait_v2", "nvmlDeviceRegisterEvents"): {TIMEOUT, *NOT_OFFERED},
}
"""Calls by which a GPU becomes unhealthy, all that fail together, and the codes that only say what it cannot tell."""
UNWATCHED = {
    ("nvmlDeviceGetComputeRunningProcesses_v3",): set(),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3",): NOT_OFFERED,
}
"""Calls without which nobody sees what its processes use."""
HARMLESS = ("nvmlSystemGetDriverVersion", "nvmlDeviceGetUtilizationRates", "nvmlEventSetFree", "nvmlDeviceGetName")
TOLD = {
    "nvmlDeviceGetMemoryInfo_v2": (NOT_OFFERED, "GPUUnhealthy", {"Node"}),
    "nvmlEventSetWait_v2": ({TIMEOUT, *NOT_OFFERED}, "GPUUnhealthy", {"Node"}),
    "nvmlDeviceGetComputeRunningProcesses_v3": (set(), "EnforcementLowered", {"Node", "Pod"}),
}
"""One call of each kind, the codes with which all is well, and the event and who has it."""
START = {
    "nvmlInitWithFlags": set(),
    "nvmlDeviceGetCount_v2": set(),
    "nvmlDeviceGetHandleByIndex_v2": set(),
    "nvmlDeviceGetUUID": set(),
    "nvmlDeviceGetMemoryInfo_v2": NOT_OFFERED,
    "nvmlDeviceGetMigMode": NOT_OFFERED,
    "nvmlDeviceGetCudaComputeCapability": set(),
    "nvmlDeviceGetNumGpuCores": NOT_OFFERED,
    "nvmlDeviceGetNumaNodeId": NOT_OFFERED,
    "nvmlDeviceGetName": set(),
    "nvmlDeviceGetP2PStatus": {*CODES},
    "nvmlEventSetCreate": NOT_OFFERED,
    "nvmlDeviceRegisterEvents": NOT_OFFERED,
    "nvmlEventSetWait_v2": {TIMEOUT, *NOT_OFFERED},
    "nvmlDeviceGetComputeRunningProcesses_v3": set(),
    "nvmlShutdown": {*CODES},
}
"""Calls of a first look, and the codes with which all is well all the same."""
ROUNDS_TO_SEE, ROUNDS_TO_MEND, ROUNDS_TO_END = 4, 12, 8
BLIND_GRACE_S = 5.0
LIBCUDA = "7f00-7f01 r-xp 00000000 08:01 77 /usr/lib/libcuda.so.1\n"


class Rounds(Host):
    """An agent whose rounds the test makes, a second each."""

    def __init__(self, machine, folder):
        super().__init__(
            machine, folder, accounting_every_s=3600.0, inventory_every_s=3600.0, proc_root=folder / "proc",
            blind_grace_s=BLIND_GRACE_S,
        )  # fmt: skip
        self.gpu = machine.uuids[0]

    async def round(self):
        self.later_s += 1
        await self.service._look()
        await self.service.watcher.tick()
        await self.service._end_unheld()

    async def fails(self, functions, code):
        for function in functions:
            self.machine.state.fail_function(function, code)
        self.machine.write()
        for _ in range(ROUNDS_TO_SEE):
            await self.round()

    def run_with_the_driver(self):
        self.processes.start(10, POD, CONTAINER, maps=LIBCUDA)
        self.machine.state.add_process(10, self.gpu, GIB)
        self.machine.write()

    async def nobody_runs_unseen(self):
        """After the grace: either the container is seen, or it has ended."""
        for _ in range(ROUNDS_TO_END):
            await self.round()
        seen = any(usage.gpu_uuid == self.gpu for usage in self.service.watcher.accounts.usages)
        ended = self.processes.pids() == set()
        self.run_with_the_driver()
        return seen != ended and seen == (self.gpu not in self.service.watcher.blind)

    async def mends(self):
        """Answers whether all is well again."""
        self.machine.state.failures = []
        self.machine.write()
        for _ in range(ROUNDS_TO_MEND):
            await self.round()
            if self.well():
                return True
        return False

    def well(self):
        now = self.service.gpus.now
        return list(now) == self.machine.uuids and all(gpu.health.healthy and gpu.level == 0 for gpu in now.values())

    async def admitted(self):
        """Whether another slice is let in; it goes again."""
        item = Slice("slot-b", "another", "default", "q", "main", (Share(self.gpu, GIB),))
        answer = await self.service.preparation.prepare(item)
        await self.service.preparation.release("slot-b")
        return not isinstance(answer, Refusal)


@pytest.fixture
async def rounds(machine, tmp_path):
    """With a slice of 4Gi of which a process uses 1Gi."""
    async with Rounds(machine, tmp_path) as rounds:
        await rounds.prepare(rounds.slice(mem=4 * GIB))
        rounds.run_with_the_driver()
        for _ in range(3):
            await rounds.round()
        yield rounds


def names(code, text):
    """Whether a text says which error it was."""
    return f"{pynvml.NVMLError(code)} (code {code})" in text


@pytest.mark.parametrize("code", CODES)
async def test_an_agent_that_runs(rounds, code):
    gpus = rounds.service.gpus
    for functions, tolerated in UNHEALTHY.items():
        await rounds.fails(functions, code)
        health = gpus.now[rounds.gpu].health
        assert health.healthy == (code in tolerated), functions
        assert health.healthy or names(code, health.reason), functions
        assert await rounds.admitted() == health.healthy, functions
        assert await rounds.nobody_runs_unseen(), functions
        assert await rounds.mends(), functions
    for functions, tolerated in UNWATCHED.items():
        await rounds.fails(functions, code)
        assert gpus.now[rounds.gpu].level == (0 if code in tolerated else -1), functions
        assert code in tolerated or names(code, gpus.finding(rounds.gpu).evidence), functions
        assert await rounds.admitted() == (code in tolerated), functions
        assert await rounds.nobody_runs_unseen(), functions
        assert await rounds.mends(), functions
    await rounds.fails(HARMLESS, code)
    assert rounds.well() and await rounds.admitted() and await rounds.usage()
    assert rounds.processes.pids() == {10}
    rounds.run(10, 0, 5 * GIB)
    for _ in range(4):
        await rounds.round()
    assert rounds.processes.pids() == set(), "the watcher is at work again"


@pytest.mark.parametrize("code", CODES)
async def test_an_agent_that_starts(machine, tmp_path, code):
    for number, (function, tolerated) in enumerate(START.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        machine.state.fail_function(function, code)
        machine.write()
        async with Rounds(machine, folder) as rounds:
            for _ in range(ROUNDS_TO_SEE):
                await rounds.round()
            sees = [rounds.service.inventory.trouble]
            sees += [gpu.health.reason for gpu in rounds.service.gpus.now.values()]
            sees += [rounds.service.gpus.finding(uuid).evidence for uuid in rounds.service.gpus.now]
            assert rounds.well() == (code in tolerated), function
            assert rounds.well() or any(names(code, text) for text in sees), function
            assert await rounds.admitted() == rounds.well(), function
            assert await rounds.mends(), function
            assert await rounds.admitted(), function


async def test_an_xid_of_a_gpu_that_does_not_tell_its_name_is_its_own(rounds):
    rounds.machine.state.xid(rounds.gpu, 79)
    await rounds.fails(("nvmlDeviceGetUUID",), 17)
    assert not await rounds.mends()
    reasons = [gpu.health.reason for gpu in rounds.service.gpus.now.values()]
    assert reasons == ["Xid 79: GPU has fallen off the bus; waits for a reset of the GPU", "", ""]


@pytest.mark.parametrize("code", CODES)
async def test_the_node_hears_of_it_and_of_lost_sight_the_pods_too(machine, tmp_path, code):
    settings = NodeAgentSettings(
        node="node-a", agent_socket=tmp_path / "a.sock", state_dir=tmp_path / "state", accounting_every_s=0.02,
        inventory_every_s=0.02,
    )  # fmt: skip
    uuid = machine.uuids[0]
    async with agent(settings, processes=FakeProcesses(tmp_path / "proc")) as (service, gateway, uid):
        await service.preparation.prepare(Slice("slot-a", uid, "default", "p", "main", (Share(uuid, GIB),)))

        async def heard_of(function, reason, kinds):
            found = [e for e in await gateway.list(untyped(EVENTS)) if e["reason"] == reason and uuid in e["message"]]
            texts = [e for e in found if function in e["message"] and names(code, e["message"])]
            return {e["involvedObject"]["kind"] for e in texts} == kinds

        async def well():
            return all(gpu.health.healthy and gpu.level == 0 for gpu in service.gpus.now.values())

        for function, (tolerated, reason, kinds) in TOLD.items():
            if code not in tolerated:
                machine.state.fail_function(function, code, uuid if "Device" in function else "")
                machine.write()
                await until_told(partial(heard_of, function.removesuffix("_v2"), reason, kinds))
                machine.state.failures = []
                machine.write()
                await until_told(well)
