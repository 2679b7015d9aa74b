"""The whole agent over its unix socket: real nvidia-ml-py on the stub, real gRPC, simulated processes."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tessera.node_agent.service import Service
from tessera.node_agent.settings import NodeAgentSettings
from tessera.pb.agent.v1 import agent_pb2, agent_pb2_grpc
from tessera.simulator.fakes.mounts import FolderMounts
from tessera.simulator.fakes.nvml.state import NOT_AVAILABLE
from tessera.simulator.fakes.processes import FakeProcesses

GIB = 1 << 30
POD = "11111111-2222-3333-4444-555555555555"
CONTAINER = "ab" * 32


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        await asyncio.sleep(0.01)


class Host:
    """An agent with its machine, processes and a client."""

    def __init__(self, machine, tmp_path: Path, processes=FakeProcesses, **settings) -> None:
        self.machine = machine
        self.processes = processes(tmp_path / "proc")
        fast = {"accounting_every_s": 0.02, "inventory_every_s": 0.03}
        graces = {"over_limit_grace_s": 0.1, "over_limit_container_grace_s": 0.1}
        self.settings = NodeAgentSettings(
            node="node-a", agent_socket=tmp_path / "agent.sock", state_dir=tmp_path / "state", api=False,
            **{**fast, **graces, **settings},
        )  # fmt: skip
        self.later_s = 0.0
        self.service = Service(
            self.settings,
            processes=self.processes,
            clock=lambda: time.monotonic() + self.later_s,
            mounts=FolderMounts(),
        )

    async def __aenter__(self):
        await self.service.start()
        self.channel = grpc.aio.insecure_channel(f"unix://{self.settings.agent_socket}")
        self.stub = agent_pb2_grpc.AgentStub(self.channel)
        return self

    async def __aexit__(self, *_):
        await self.channel.close()
        await self.service.stop()

    def slice(self, name="slot-000-a", gpus=(0,), mem=4 * GIB, core=0, pod=POD, container="main", **more):
        shares = [agent_pb2.Share(uuid=self.machine.uuids[i], mem_bytes=mem, core_percent=core) for i in gpus]
        fields = {"namespace": "default", "pod": "p", **more}
        return agent_pb2.Slice(id=name, pod_uid=pod, container=container, shares=shares, **fields)

    async def prepare(self, item):
        return await self.stub.Prepare(agent_pb2.PrepareRequest(slice=item))

    async def refused(self, item) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.prepare(item)
        return caught.value.code(), caught.value.details()

    async def usage(self):
        return list((await self.stub.Usage(agent_pb2.UsageRequest())).processes)

    def run(self, pid, gpu, used, pod=POD, container=CONTAINER, started=1):
        self.processes.start(pid, pod, container, started=started)
        self.machine.state.add_process(pid, self.machine.uuids[gpu], used)
        self.machine.write()


@pytest.fixture
async def host(machine, tmp_path):
    async with Host(machine, tmp_path) as host:
        yield host


async def test_inventory_stream_follows_health_both_ways(host):
    stream = host.stub.WatchInventory(agent_pb2.WatchInventoryRequest())
    first = await stream.read()
    assert [g.uuid for g in first.gpus] == host.machine.uuids
    h100 = first.gpus[0]
    assert (h100.mem_bytes, h100.total_bytes) == ((81559 - 626 - 256) << 20, 81559 << 20)
    assert (h100.sm_count, h100.level, h100.healthy, h100.index) == (132, 0, True, 0)
    assert h100.evidence == "the driver tells the memory of each process"
    host.machine.state.change(host.machine.uuids[2], lost=True)
    host.machine.write()
    second = await stream.read()
    assert [g.healthy for g in second.gpus] == [True, True, False]
    assert "GPU is lost" in second.gpus[2].health_reason
    host.machine.state.change(host.machine.uuids[2], lost=False)
    host.machine.write()
    # Meanwhile it was not watched either, and that may come back at another moment.
    while not all(g.healthy and g.level == 0 for g in (await stream.read()).gpus):
        pass


async def test_prepare_answers_the_limits_and_is_idempotent(host):
    reply = await host.prepare(host.slice(gpus=(0, 1), core=30))
    assert reply == await host.prepare(host.slice(gpus=(0, 1), core=30))
    mount = reply.mounts[0]
    assert (mount.container_path, "ro" in mount.options, reply.level) == ("/run/tessera", True, 0)
    content = json.loads((Path(mount.host_path) / "slice.json").read_text())
    gpus = [{"uuid": uuid, "mem_bytes": 4 * GIB, "core_percent": 30} for uuid in host.machine.uuids[:2]]
    assert content == {"version": 1, "gpus": gpus}


async def test_release_frees_and_unknown_ids_are_no_error(host):
    await host.prepare(host.slice(mem=70 * GIB))
    code, _ = await host.refused(host.slice("slot-001-b", mem=70 * GIB, pod="other"))
    assert code is grpc.StatusCode.UNAVAILABLE
    for _ in range(2):
        await host.stub.Release(agent_pb2.ReleaseRequest(id="slot-000-a"))
    assert list((host.settings.state_dir / "slices").iterdir()) == []
    assert (await host.prepare(host.slice("slot-001-b", mem=70 * GIB, pod="other"))).level == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mem": 100 * GIB}, "has 80677Mi to give; slice slot-000-a asks for 100Gi"),
        ({"mem": 0}, "found mem_bytes 0"),
        ({"core": 101}, "core_percent 101"),
        ({"min_level": 1}, "reaches enforcement level 0; slice slot-000-a needs at least 1"),
        ({"gpus": ()}, "found no shares"),
        ({"gpus": (0, 0)}, "found a GPU twice"),
        ({"name": "../../etc"}, "allowed: lower case letters"),
        ({"container": ""}, "found no pod UID or container"),
    ],
)
async def test_what_no_retry_can_mend_is_refused(host, change, text):
    code, details = await host.refused(host.slice(**change))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert text in details
    assert list(host.service.store) == []


async def test_unknown_and_unhealthy_gpus_are_refused(host):
    unknown = host.slice()
    unknown.shares[0].uuid = "GPU-nowhere"
    assert await host.refused(unknown) == (grpc.StatusCode.FAILED_PRECONDITION, "GPU GPU-nowhere is not on this node")
    host.machine.state.change(host.machine.uuids[0], lost=True)
    host.machine.write()
    await until(lambda: not host.service.gpus.now[host.machine.uuids[0]].health.healthy)
    code, details = await host.refused(host.slice())
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "is unhealthy: does not answer" in details


async def test_over_commit_is_refused_until_room_is_released(host):
    await host.prepare(host.slice(mem=60 * GIB, core=80))
    other = host.slice("slot-001-b", mem=30 * GIB, pod="other")
    code, details = await host.refused(other)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "has 19237Mi of 80677Mi free; asked for 30Gi" in details
    code, details = await host.refused(host.slice("slot-002-c", mem=GIB, core=30, pod="third"))
    assert "has 20 percent of its compute free; asked for 30" in details
    await host.stub.Release(agent_pb2.ReleaseRequest(id="slot-000-a"))
    assert (await host.prepare(other)).level == 0


async def test_the_same_id_with_other_limits_is_refused(host):
    await host.prepare(host.slice())
    code, details = await host.refused(host.slice(mem=5 * GIB))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "was prepared for default/p, container main with other limits" in details


async def test_usage_names_pod_and_container(host):
    host.run(10, 0, GIB)
    host.machine.state.add_process(99, host.machine.uuids[1], 5)
    host.machine.write()
    found = {p.pid: (p.gpu_uuid, p.used_bytes, p.pod_uid, p.container_id) for p in await host.usage()}
    assert found == {10: (host.machine.uuids[0], GIB, POD, CONTAINER), 99: (host.machine.uuids[1], 5, "", "")}


async def test_a_gpu_that_cannot_be_read_is_not_an_empty_one(host):
    host.machine.state.fail_function("nvmlDeviceGetComputeRunningProcesses_v3", 999)
    host.machine.write()
    with pytest.raises(grpc.aio.AioRpcError, match="nvmlDeviceGetComputeRunningProcesses_v3"):
        await host.usage()


async def test_newest_process_then_container_are_ended_and_nobody_else(host):
    await host.prepare(host.slice(mem=4 * GIB))
    other = "99999999-2222-3333-4444-555555555555"
    await host.prepare(host.slice("slot-001-b", mem=8 * GIB, pod=other))
    host.run(20, 0, 8 * GIB, pod=other, container="cd" * 32)
    host.run(99, 0, 30 * GIB, pod="", container="")
    host.run(10, 0, 3 * GIB, started=1)
    host.run(11, 0, 3 * GIB, started=2)
    await until(lambda: 11 not in host.processes.pids())
    host.machine.state.remove_process(11)
    host.machine.write()
    assert host.processes.pids() == {10, 20, 99}
    host.run(12, 0, 6 * GIB, started=3)
    await until(lambda: host.processes.pids() == {20, 99})
    host.machine.state.remove_process(10)
    host.machine.state.remove_process(12)
    host.machine.write()
    for _ in range(20):
        await host.service.watcher.tick()
    assert host.processes.pids() == {20, 99}


async def test_the_ladder_goes_on_after_nvml_could_not_be_read(host):
    await host.prepare(host.slice(mem=4 * GIB))
    host.run(10, 0, 3 * GIB, started=1)
    host.run(11, 0, 3 * GIB, started=2)
    await until(lambda: 11 not in host.processes.pids())
    host.machine.state.remove_process(11)
    host.machine.state.fail_function("nvmlDeviceGetComputeRunningProcesses_v3", 999)
    host.machine.write()
    episodes = host.service.watcher.episodes
    for _ in range(3):
        host.later_s += 100
        await host.service.watcher.tick()
        assert host.service.watcher.episodes == episodes
    assert host.processes.pids() == {10}
    host.machine.state.failures = []
    host.run(10, 0, 9 * GIB, started=1)
    await until(lambda: not host.processes.pids())
    assert list(host.service.watcher.ended.values()) == [1, 1, 1]


async def test_a_gpu_that_was_not_given_has_limit_zero(host):
    await host.prepare(host.slice(gpus=(0,)))
    host.run(10, 1, GIB)
    await until(lambda: 10 not in host.processes.pids())


async def test_untold_memory_is_a_condition_then_no_slices(host):
    await host.prepare(host.slice())
    host.run(10, 0, NOT_AVAILABLE)
    await until(lambda: host.service.gpus.now[host.machine.uuids[0]].level == -1)
    assert 10 in host.processes.pids()
    _, details = await host.refused(host.slice("slot-001-b", mem=GIB, pod="other"))
    assert "reaches enforcement level -1" in details
    host.run(10, 0, GIB)
    await until(lambda: host.service.gpus.now[host.machine.uuids[0]].level == 0)


async def test_health_service_and_socket(host):
    health = health_pb2_grpc.HealthStub(host.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="tessera.agent.v1.Agent"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert host.settings.agent_socket.stat().st_mode & 0o777 == 0o600


async def test_metrics(machine, tmp_path, unused_tcp_port):
    async with Host(machine, tmp_path, metrics_port=unused_tcp_port) as host:
        await host.prepare(host.slice())
        host.run(10, 0, GIB)
        await until(lambda: bool(host.service.watcher.accounts.usages))
        url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
        text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())).decode()
    assert f'slice="slot-000-a",gpu="{machine.uuids[0]}"' in text or f'gpu="{machine.uuids[0]}"' in text
    assert "tessera_slice_memory_used_bytes" in text and "1.073741824e+09" in text
    assert "tessera_gpu_healthy" in text
    assert f'tessera_gpu_enforcement_level{{gpu="{machine.uuids[0]}",model="{machine.state.gpus[0].name}"}} 0.0' in text
