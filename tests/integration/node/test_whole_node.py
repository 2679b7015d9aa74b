"""Both processes of a node together, over their socket: the real device plugin and the real agent on stub NVML."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tessera.kube.gateway import Gateway
from tessera.model.assignment import Share
from tessera.node_agent.service import Service
from tessera.node_agent.settings import NodeAgentSettings
from tessera.simulator.fakes.nvml.presets import mig_devices
from tessera.simulator.fakes.processes import FakeProcesses
from tests.integration.device_plugin.host import GIB, NODE, Host, eventually
from tests.integration.node_agent.conftest import Machine

Plain = dict[str, Any]


class Node(Host):
    """A host whose agent is the real one."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    async def _start_agent(self) -> None:
        self.processes = FakeProcesses(self.dir / "proc")
        await self.start_agent()
        self._stack.push_async_callback(self.stop_agent)

    async def start_agent(self) -> None:
        fields: Plain = {"node": NODE, "agent_socket": self.dir / "agent.sock", "state_dir": self.dir / "agent"}
        fast: Plain = {"accounting_every_s": 0.05, "inventory_every_s": 0.05, "over_limit_grace_s": 0.1}
        settings = NodeAgentSettings(**fields, **fast, over_limit_container_grace_s=0.1)
        self.agents_gateway = await Gateway(self.connection).__aenter__()
        self.real = Service(settings, processes=self.processes, gateway=self.agents_gateway)
        await self.real.start()

    async def stop_agent(self) -> None:
        await self.real.stop()
        await self.agents_gateway.__aexit__(None, None, None)

    def health(self, index: int) -> Plain:
        node = self.api.store.get("gpunodes", "", NODE) or {}
        found = ((node.get("status") or {}).get("gpus") or [{}] * 3)[index]
        return dict(found.get("health") or {})

    def share(self, index: int, mem_bytes: int) -> Share:
        return Share(self.machine.uuids[index], mem_bytes)

    def use(self, pod: str, pid: int, used_bytes: int) -> None:
        """A process of the pod's container holds memory of its GPU."""
        container, uid = self.container(pod), (self.pod(pod) or {})["metadata"]["uid"]
        self.processes.start(pid, uid, container.id, started=pid)
        self.machine.state.add_process(pid, container.env["CUDA_VISIBLE_DEVICES"], used_bytes)
        self.machine.write()

    def forget(self, pid: int) -> None:
        self.machine.state.remove_process(pid)
        self.machine.write()


@pytest.fixture
async def node(machine: Machine) -> AsyncIterator[Node]:
    async with Node(machine) as node:
        yield node


async def test_a_container_sees_the_limits_that_the_agent_holds_and_both_forget_them_at_its_end(node: Node) -> None:
    await node.place("web", {"main": node.share(1, 4 * GIB)})
    await node.running("web")
    container = node.container("web")
    held = node.real.store.get(container.env["TESSERA_SLICE"])
    assert held is not None and held.shares == (node.share(1, 4 * GIB),) and held.container == "main"
    mounts = [mount for mount in container.mounts if mount["containerPath"] == "/run/tessera"]
    assert [mount["hostPath"] for mount in mounts] == [str(node.real.store.folder(held.id))]
    told = json.loads((Path(mounts[0]["hostPath"]) / "slice.json").read_text())
    assert told["gpus"] == [{"uuid": node.machine.uuids[1], "mem_bytes": 4 * GIB, "core_percent": 0}]
    await node.delete("web")
    await eventually(lambda: not list(node.real.store), "the agent has released it")
    await eventually(lambda: not len(node.plugin.store.book), "the plugin has released it")


async def test_a_process_over_the_limit_is_ended_and_the_pod_hears_of_it(node: Node) -> None:
    await node.place("greedy", {"main": node.share(0, 4 * GIB)})
    await node.running("greedy")
    node.use("greedy", 10, 5 * GIB)
    await eventually(lambda: 10 not in node.processes.pids(), "the process was ended")
    await eventually(lambda: node.events("SliceOverLimit"), "event on the pod")
    node.forget(10)


async def test_room_is_given_again_only_when_the_last_process_has_gone(node: Node) -> None:
    total = node.real.gpus.now[node.machine.uuids[0]].mem_bytes
    await node.place("first", {"main": node.share(0, total)})
    await node.running("first")
    node.use("first", 20, GIB)
    await node.delete("first", grace_s=0)
    await eventually(lambda: node.phase("first") == "gone", "first gone")
    await node.place("second", {"main": node.share(0, total)})
    await eventually(lambda: "is being released" in node.waiting("second"), "second waits")
    assert len(list(node.real.store)) == 1
    node.forget(20)
    node.processes.remove(20)
    await node.running("second")


async def test_the_agent_dies_and_comes_back_between_two_containers(node: Node) -> None:
    await node.place("before", {"main": node.share(0, 4 * GIB)})
    await node.running("before")
    await node.stop_agent()
    await node.place("meanwhile", {"main": node.share(0, 4 * GIB)})
    await eventually(lambda: "agent" in node.waiting("meanwhile"), "it waits for the agent")
    await node.start_agent()
    await node.running("before", "meanwhile")
    assert len(list(node.real.store)) == 2


async def test_a_gpu_that_is_lost_is_published_and_starts_nothing_until_it_is_back(node: Node) -> None:
    uuid = node.machine.uuids[0]
    node.machine.state.change(uuid, lost=True)
    node.machine.write()
    await eventually(lambda: node.health(0).get("state") == "Unhealthy", "the loss is published")
    assert node.allocatable()["tessera.io/gpu"] == "3", "capacity is the installed size"
    await node.place("web", {"main": Share(uuid, 4 * GIB)})
    await eventually(lambda: "is unhealthy" in node.waiting("web") or node.phase("web") == "gone", "it is refused")
    assert not node.runtime.started
    node.machine.state.change(uuid, lost=False)
    node.machine.write()
    await eventually(lambda: node.health(0).get("state") == "Healthy", "it is back")
    await node.place("again", {"main": Share(uuid, 4 * GIB)})
    await node.running("again")


async def test_a_mig_device_is_given_whole_and_one_that_was_destroyed_starts_nothing(node: Node) -> None:
    state = node.machine.state
    given, destroyed = state.migs = mig_devices(state.gpus[0], ["1g.10gb", "1g.10gb"])
    state.change(state.gpus[0].uuid, mig=True)
    node.machine.write()
    await eventually(lambda: node.allocatable().get("tessera.io/gpu") == "4", "two MIG devices and two GPUs")
    mem = node.real.gpus.now[given.uuid].mem_bytes
    await node.place("one", {"main": Share(given.uuid, mem, 100, whole=True)})
    await node.running("one")
    env = node.container("one").env
    assert [env[key] for key in ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")] == [given.uuid] * 2
    state.migs = [given]
    node.machine.write()
    await eventually(lambda: destroyed.uuid not in node.plugin.inventory.gpus, "it has left")
    await node.place("other", {"main": Share(destroyed.uuid, mem, 100, whole=True)})
    await eventually(lambda: "is not on this node" in node.waiting("other") or node.phase("other") == "gone", "refused")
    assert len(node.runtime.started) == 1
