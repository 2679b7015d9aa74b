"""Level 1 against the stand-in for nvidia-cuda-mps-control, through its states."""

import asyncio
import stat
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import pytest

from tessera.model.assignment import Share
from tessera.model.gpus import Gpu
from tessera.node_agent.enforcement import mps_node, mps_reasons
from tessera.node_agent.enforcement.mps import Mps
from tessera.node_agent.enforcement.mps_control import MpsControl, MpsError
from tessera.node_agent.enforcement.mps_groups import Extent, name_of, partition
from tessera.node_agent.enforcement.mps_replies import ServerStatus
from tessera.node_agent.enforcement.port import EnforcementError
from tessera.node_agent.mps_clients import HostClients
from tessera.node_agent.slices import Slice
from tessera.simulator.fakes.mps import daemon
from tessera.simulator.fakes.mps.clients import FakeMps, install
from tessera.simulator.fakes.mps.daemon import opened
from tessera.simulator.fakes.mps.servers import Refused
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.node_agent.test_service import until

GIB = 1 << 30
GPU = "GPU-a"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Node:
    """``links``: who is linked to whom; ``blamed``: whom the driver blames; ``look_s``: by default as long as it
    takes."""

    def __init__(self, folder, extent=Extent.GPU, gpus=(GPU, "GPU-b"), links=(), limit=3, answer_s=3.0,
                 shm_of=lambda _: None, look_s=60.0):  # fmt: skip
        self.folder, self.clock, self.slices = folder, Clock(), []
        self.processes = FakeProcesses(folder / "proc")
        self.extent, self.gpus, self.links, self.limit, self.answer_s = extent, gpus, dict(links), limit, answer_s
        self.program, self.proof = str(install(folder)), None
        self.blamed, self.driver = (), "580.159.04"
        self.shm_of, self.look_s = shm_of, look_s
        self.fake = FakeMps(folder / GPU / "pipe")
        self.start()

    def start(self):
        """The agent, anew."""
        clients = HostClients(self.processes, lambda: self.slices)
        node = mps_node.Node(
            lambda: self.slices,
            clients,
            lambda: self.limit,
            self.clock,
            self.proof,
            lambda: self.blamed,
            lambda: self.driver,
            self.shm_of,
        )
        times = {"answer_s": self.answer_s, "look_s": self.look_s}
        self.limiter = Mps(self.program, self.folder, self._partition, node, **times)

    def _partition(self, kept):
        gpus = [gpu(uuid, nvlink_peers=self.links.get(uuid, ())) for uuid in self.gpus]
        return partition(gpus, self.extent, kept)

    def fake_of(self, *uuids):
        return FakeMps(self.folder / name_of(tuple(sorted(uuids))) / "pipe")

    def program_prints(self, text):
        """The control program only complains, until it is installed again."""
        Path(self.program).write_text(f"#!/bin/sh\necho {text}\nexit 1\n")

    def run(self, pid, name, **more):
        """A process of the pod of a slice becomes a client."""
        self.processes.start(pid, uid_of(name), "ab" * 32)
        self.fake.connect(pid, **more)

    def give(self, name, mem, core=0, gpus=(GPU,), **more):
        item = Slice(name, uid_of(name), "default", name, "main", tuple(Share(g, mem, core) for g in gpus), **more)
        self.slices.append(item)
        return item


def uid_of(name):
    """The UID of the pod of a slice."""
    return str(uuid5(NAMESPACE_OID, name))


def gpu(uuid, **more):
    return Gpu(uuid, "H100", 80 * GIB, 80 * GIB, **more)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


async def test_detect_starts_a_daemon_and_a_server(node):
    finding = await node.limiter.detect(GPU)
    assert (finding.level, "ACTIVE" in finding.evidence) == (1, True)
    assert node.fake.state["multiuser"] is True
    assert (await node.limiter.detect(GPU)).level == 1


async def test_no_program_is_level_0_with_the_evidence(tmp_path):
    node = Node(tmp_path)
    node.program = str(tmp_path / "absent")
    node.start()
    finding = await node.limiter.detect(GPU)
    assert (finding.level, "No such file" in finding.evidence) == (0, True)


async def test_a_program_that_hangs_is_given_up(tmp_path):
    program = tmp_path / "hangs"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(MpsError, match=r"no answer within 0\.1 s"):
        await MpsControl(str(program), tmp_path, (GPU,), timeout_s=0.1).servers()


async def test_a_caller_that_gives_up_leaves_no_program_behind(tmp_path):
    program = tmp_path / "control"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    asking = asyncio.create_task(MpsControl(str(program), tmp_path, (GPU,)).servers())
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    asking.cancel()
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not Path(f"/proc/{pid}").exists())


async def test_prepare_gives_the_clients_environment_and_sets_the_ceiling(node):
    await node.limiter.detect(GPU)
    small, large = node.give("a", 4 * GIB, 30), node.give("b", 8 * GIB, 50)
    await node.limiter.prepare(large)
    edits = await node.limiter.prepare(small)
    assert edits.level == 1
    assert edits.env == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/tessera-mps",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{GPU}=4096M",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "30",
    }
    assert edits.mounts[0].host_path == str(node.fake.pipe) and "ro" in edits.mounts[0].options
    state = node.fake.state
    assert (state["memory"][GPU], state["percent"]) == ("8192M", 50.0)
    node.fake.connect(500)
    server = next(iter(node.fake.state["servers"].values()))
    assert server["clients"]["500"] == {"memory": {GPU: "8192M"}, "percent": 50.0, "devices": [GPU]}


async def test_the_ceiling_sinks_when_the_largest_slice_goes(node):
    await node.limiter.detect(GPU)
    small, large = node.give("a", 4 * GIB, 30), node.give("b", 8 * GIB, 50)
    for item in (small, large):
        await node.limiter.prepare(item)
    node.slices.remove(large)
    await node.limiter.release(large)
    assert (node.fake.state["memory"][GPU], node.fake.state["percent"]) == ("4096M", 30.0)


async def test_burstable_starts_at_its_limit_and_best_effort_without(node):
    await node.limiter.detect(GPU)
    burst = node.give("a", GIB, 30, qos="burstable", core_limit_percent=60)
    free = node.give("b", GIB, 30, qos="best-effort")
    assert (await node.limiter.prepare(burst)).env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "60"
    assert "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in (await node.limiter.prepare(free)).env


async def test_a_setting_changed_behind_our_back_is_set_again(node):
    await node.limiter.detect(GPU)
    await node.limiter.prepare(node.give("a", 1044 << 20))
    assert await node.limiter.observe() == ()
    node.fake.forget(GPU)
    assert [i.reason for i in await node.limiter.observe()] == [mps_reasons.CHANGED]
    assert node.fake.state["memory"][GPU] == "1044M"


async def test_fault_closes_admission_and_ends_those_who_stay(node):
    await node.limiter.detect(GPU)
    item = node.give("a", GIB)
    await node.limiter.prepare(item)
    node.run(500, "a")
    node.run(501, "a")
    node.fake.connect(502)
    node.processes.start(503)
    node.fake.fault()
    assert [(i.reason, i.slices) for i in await node.limiter.observe()] == [(mps_reasons.FAULT, ("a",))]
    with pytest.raises(EnforcementError, match="nobody is admitted until they have gone"):
        await node.limiter.prepare(node.give("b", GIB))
    node.clock.now = 1.0
    assert await node.limiter.observe() == ()
    assert node.processes.pids() == {500, 501, 503}
    node.clock.now = 2.5
    await node.limiter.observe()
    assert (node.processes.pids(), sorted(node.fake.state["terminated"])) == ({503}, [500, 501, 502])
    assert [(i.reason, i.kind) for i in await node.limiter.observe()] == [(mps_reasons.RECOVERED, "Normal")]
    assert (await node.limiter.prepare(item)).level == 1


async def test_a_daemon_that_died_is_started_again_with_its_settings(node):
    await node.limiter.detect(GPU)
    await node.limiter.prepare(node.give("a", 2 * GIB))
    node.fake.crash()
    assert [i.reason for i in await node.limiter.observe()] == [mps_reasons.LOST]
    assert node.fake.state["memory"][GPU] == "2048M"


async def test_the_agent_refuses_before_the_driver_does(node):
    await node.limiter.detect(GPU)
    for pid in (500, 501):
        node.fake.connect(pid)
    await node.limiter.prepare(node.give("a", GIB))
    item = node.give("b", GIB)
    with pytest.raises(EnforcementError, match="has 3 MPS clients, as many as the driver takes"):
        await node.limiter.prepare(item)


async def test_terminate_reaches_only_clients(node):
    await node.limiter.detect(GPU)
    node.fake.connect(500)
    assert await node.limiter.terminate(GPU, 500) is True
    assert await node.limiter.terminate(GPU, 501) is False
    assert await node.limiter.terminate("GPU-x", 500) is False


async def test_close_leaves_daemons_that_serve_slices(node):
    await node.limiter.detect(GPU)
    await node.limiter.detect("GPU-b")
    node.give("a", GIB)
    await node.limiter.close()
    assert node.fake.state["servers"]
    with pytest.raises(FileNotFoundError):
        assert FakeMps(node.fake.pipe.parent.parent / "GPU-b" / "pipe").state


class TestTheStandIn:
    """It behaves as the real one is documented to."""

    @pytest.fixture
    async def control(self, tmp_path):
        control = MpsControl(str(install(tmp_path)), tmp_path, (GPU,))
        await control.start()
        return control

    async def test_no_daemon_is_a_complaint(self, tmp_path):
        with pytest.raises(MpsError, match="Cannot find MPS control daemon"):
            await MpsControl(str(install(tmp_path)), tmp_path, (GPU,)).servers()

    async def test_unknown_server_is_a_complaint(self, control):
        with pytest.raises(MpsError, match="Invalid argument"):
            await control.status(1)

    async def test_sizes_are_printed_coarsely(self, control):
        await control.set_ceiling({GPU: 1044 << 20}, 100, ())
        assert [reply.strip() for reply in await control.memory_limits(GPU, ())] == ["1G"]

    async def test_another_user_waits_without_multiuser(self, tmp_path):
        fake = FakeMps(tmp_path / "pipe")
        daemon.start(fake.pipe, multiuser=False)
        fake.connect(1, uid=1000)
        with pytest.raises(Refused, match="waits for the server of user 1000"):
            fake.connect(2, uid=2000)
        fake.disconnect(1)
        fake.connect(2, uid=2000)

    async def test_as_many_clients_as_the_driver_takes(self, control):
        fake = FakeMps(control.pipe)
        for pid in range(48):
            fake.connect(pid)
        with pytest.raises(Refused, match="as many clients as it takes"):
            fake.connect(48)

    async def test_fault_lasts_until_all_have_gone(self, control):
        fake = FakeMps(control.pipe)
        fake.connect(1)
        fake.connect(2)
        server = (await control.servers())[0]
        fake.fault()
        with pytest.raises(Refused, match="FAULT"):
            fake.connect(3)
        fake.disconnect(1)
        assert await control.status(server) is ServerStatus.FAULT
        await control.terminate_client(server, 2)
        assert await control.status(server) is ServerStatus.ACTIVE

    async def test_replies_are_those_of_a_real_daemon(self, control):
        await control.start_server(0)
        server = (await control.servers())[0]
        FakeMps(control.pipe).connect(1032)
        said = {
            f"set_default_device_pinned_mem_limit {GPU} 10G": "",
            f"get_default_device_pinned_mem_limit {GPU}": "10G",
            "set_default_active_thread_percentage 50": "50.0",
            "get_default_active_thread_percentage": "50.0",
            f"get_client_list {server}": "1032",
            f"terminate_client {server} 1032": "0",
            f"get_server_status {server}": "ACTIVE",
        }
        assert {command: daemon.command(control.pipe, command) for command in said} == said
        files = {"control", "control_lock", "control_privileged", "log", "nvidia-cuda-mps-control.pid"}
        assert files < {path.name for path in control.pipe.iterdir()}

    async def test_a_client_over_two_gpus_has_a_context_on_each(self, control):
        FakeMps(control.pipe).connect(7, devices=(GPU, "GPU-b"))
        assert [(c.pid, c.device) for c in await control.contexts()] == [(7, GPU), (7, "GPU-b")]

    async def test_quit_stops_it(self, control):
        await control.quit()
        with pytest.raises(MpsError, match="Cannot find"):
            await control.servers()
        await control.quit()

    async def test_every_command_is_logged(self, control):
        await control.start_server(0)
        with opened(control.pipe) as state:
            assert state["log"][-1] == "start_server -uid 0"
