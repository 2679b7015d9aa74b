"""The agent as a process: it is killed in the middle and starts again; bad settings are one sentence."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from tessera.pb.agent.v1 import agent_pb2, agent_pb2_grpc
from tessera.simulator.fakes.nvml.build import library_dir
from tessera.simulator.fakes.nvml.presets import host_gpus
from tessera.simulator.fakes.nvml.state import ENV, NvmlState

GIB = 1 << 30


class AgentProcess:
    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "agent.sock"
        self.state = NvmlState(gpus=host_gpus(["A100", "L4"], host="b"))
        self.state.write(folder / "nvml.state")
        self.running: subprocess.Popen[bytes] | None = None

    def start(self, *, driver: bool = True) -> None:
        arguments = ["--node", "b", "--socket", str(self.socket), "--state-dir", str(self.folder / "state")]
        arguments += ["--processes", str(self.folder / "proc"), "--api", "false", "--inventory-every-s", "0.05"]
        environment = {**os.environ, ENV: str(self.folder / "nvml.state")}
        environment.pop("LD_LIBRARY_PATH", None)
        if driver:
            environment["LD_LIBRARY_PATH"] = str(library_dir())
        command = [sys.executable, "-m", "tessera.simulator.fakes.node_agent", *arguments]
        self.running = subprocess.Popen(command, env=environment, stderr=(self.folder / "log").open("ab"))

    def stub(self) -> agent_pb2_grpc.AgentStub:
        """Waits until the socket answers."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                break
            except OSError:
                assert self.running and self.running.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.02)
        return agent_pb2_grpc.AgentStub(grpc.insecure_channel(f"unix://{self.socket}"))

    def end(self, number: int) -> int:
        assert self.running
        self.running.send_signal(number)
        status = self.running.wait(20)
        self.running = None
        return status

    def request(self, name: str, mem: int, pod: str) -> agent_pb2.PrepareRequest:
        share = agent_pb2.Share(uuid=self.state.gpus[0].uuid, mem_bytes=mem)
        item = agent_pb2.Slice(id=name, pod_uid=pod, namespace="ns", pod=pod, container="main", shares=[share])
        return agent_pb2.PrepareRequest(slice=item)


@pytest.fixture
def agent(tmp_path):
    agent = AgentProcess(tmp_path)
    yield agent
    if agent.running:
        agent.end(signal.SIGKILL)


def test_prepared_slices_survive_kill_9(agent):
    agent.start()
    stub = agent.stub()
    first = stub.Prepare(agent.request("slot-000-a", 30 * GIB, "p0"))
    agent.end(signal.SIGKILL)
    agent.start()
    stub = agent.stub()
    assert stub.Prepare(agent.request("slot-000-a", 30 * GIB, "p0")) == first
    with pytest.raises(grpc.RpcError, match="asked for 20Gi"):
        stub.Prepare(agent.request("slot-001-b", 20 * GIB, "p1"))
    stub.Release(agent_pb2.ReleaseRequest(id="slot-000-a"))
    stub.Prepare(agent.request("slot-001-b", 20 * GIB, "p1"))
    assert agent.end(signal.SIGTERM) == 0


def test_without_a_driver_it_serves_an_empty_inventory(agent):
    agent.start(driver=False)
    stream = agent.stub().WatchInventory(agent_pb2.WatchInventoryRequest())
    assert list(next(stream).gpus) == []
    with pytest.raises(grpc.RpcError, match="is not on this node"):
        agent.stub().Prepare(agent.request("slot-000-a", GIB, "p0"))
    assert agent.end(signal.SIGTERM) == 0
    log = (agent.folder / "log").read_text()
    assert "NVML Shared Library Not Found" in log and "Traceback" not in log


def test_restarted_without_a_driver_it_still_knows_its_gpus(agent):
    agent.start()
    known = next(agent.stub().WatchInventory(agent_pb2.WatchInventoryRequest()))
    agent.end(signal.SIGKILL)
    agent.start(driver=False)
    found = next(agent.stub().WatchInventory(agent_pb2.WatchInventoryRequest()))
    assert [g.uuid for g in found.gpus] == [g.uuid for g in known.gpus]
    assert all(not g.healthy and "NVML" in g.health_reason for g in found.gpus)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--node: found none; allowed: a value"),
        (
            ["--node", "a", "--enforcement", "strict"],
            "--enforcement: found 'strict'; allowed: 'auto', 'watch', 'mps', 'partition' or 'driver'",
        ),
        (["--node", "a", "--enforcment", "mps"], "found '--enforcment'; allowed: --enforcement"),
        (["--node", "a", "--enforce", "mps"], "found '--enforce'; allowed: --enforcement"),
        (
            ["--node", "a", "--headroom-bytes", "-1"],
            "--headroom-bytes: found '-1'; allowed: greater than or equal to 0",
        ),
    ],
)
def test_bad_settings_are_one_sentence(arguments, text):
    command = [sys.executable, "-m", "tessera.node_agent.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (2, f"tessera node-agent: {text}")
