"""The watcher against hosts that do not hold still: overruns end in time, and nobody else ever does.

The real agent's parts, with the kernel and the driver of ``MovingHost`` and a clock of the test's own.
"""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tessera.model.assignment import Share
from tessera.node_agent.nvml import GpuProcess, NvmlError, Reading, Xid
from tessera.node_agent.processes import HostProcesses
from tessera.node_agent.service import Service
from tessera.node_agent.settings import Enforcement, NodeAgentSettings
from tessera.node_agent.slices import Slice
from tests.fakes.moving_host import GPU, MIB, MovingHost, cgroup, pod_uid

LIMIT_MIB, PODS = 1000, 24
SLOWEST_S = 0.2
"""How long a reading of the driver may take: the next round begins a quarter of a second after the last one began."""
ENDED_IN_S = 1.5


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of processes are ended here, with a line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


class Driver:
    """NVML as the host has it."""

    def __init__(self, host: MovingHost) -> None:
        self._host = host

    def open(self) -> None:
        return

    def close(self) -> None:
        return

    def driver_version(self) -> str:
        return "580"

    def read(self) -> Reading:
        return self._host.reading()

    def processes(self, uuid: str) -> tuple[GpuProcess, ...]:
        return self._host.processes(uuid)

    def utilization(self, uuid: str) -> int:
        return 0

    def subscribe(self) -> dict[str, NvmlError]:
        return {}

    def next_xid(self) -> Xid | None:
        return self._host.next_xid()


class Trial:
    """An agent with its default graces, and pods with a slice each."""

    def __init__(self, folder: Path, seed: int, unrest: float) -> None:
        self.host = MovingHost(seed, 0.0)
        self._unrest = unrest
        self.chance = random.Random(seed + 1)
        settings = NodeAgentSettings(
            node="n", state_dir=folder / "state", agent_socket=folder / "a.sock", enforcement=Enforcement.WATCH,
            cgroup_mount=folder / "cgroup", api=False, headroom_bytes=0,
        )  # fmt: skip
        processes = HostProcesses(cgroup_mount=folder / "cgroup", kernel=self.host)
        self.agent = Service(settings, nvml=Driver(self.host), processes=processes, clock=lambda: self.host.now)
        self.pods = [pod_uid(self.chance) for _ in range(PODS)]
        for number, pod in enumerate(self.pods):
            share = Share(GPU, LIMIT_MIB * MIB)
            self.agent.store.put(Slice(f"s{number}", pod, "ns", f"p{number}", "main", (share,)))

    async def ready(self) -> "Trial":
        """The GPU was seen, and from now on nothing holds still."""
        self.agent.inventory.observe(self.host.reading())
        await self.agent.gpus.refresh()
        self.host.unrest = self._unrest
        return self

    def container(self, pod: str, processes: int, each_mib: int) -> str:
        """A fresh container of a pod."""
        path = cgroup(pod, self.chance)
        for _ in range(processes):
            self.host.start(path, each_mib)
        return path

    def fill(self) -> None:
        """Pods without a container get one, most of them too large; of the host's own processes some stay."""
        running = {path.split("/")[3].removeprefix("pod") for path in self.host.by_path() if path}
        for pod in self.pods:
            if pod not in running:
                heavy = self.chance.random() < 0.8
                self.container(pod, 1 + self.chance.randrange(4), LIMIT_MIB if heavy else 100)
        for task in [task for task in self.host.tasks.values() if not task.path][20:]:
            del self.host.tasks[task.pid]

    async def round(self) -> None:
        """One look, which takes its time, and the wait for the next."""
        began = self.host.now
        await self.agent.watcher.tick()
        self.host.now = max(began + 0.25, self.host.now + self.chance.uniform(0.001, SLOWEST_S))


@pytest.mark.parametrize("forks", [0, 1])
async def test_a_hundred_of_a_hundred_overruns_end_in_time(tmp_path: Path, forks: int):
    """At a random moment between two looks, of one or several processes, newest first or not."""
    trial = await Trial(tmp_path, 7 + forks, 0.0).ready()
    took = []
    for number in range(100):
        pod = trial.pods[number % PODS]
        path = trial.container(pod, 1 + trial.chance.randrange(3), 100)
        await trial.round()
        next_look = trial.host.now
        began = trial.host.now = next_look - trial.chance.uniform(0, 0.25)
        culprits = [task for task in trial.host.tasks.values() if task.path == path]
        trial.chance.choice(culprits).used_bytes += LIMIT_MIB * MIB
        trial.host.now = next_look
        while trial.host.used(path) > LIMIT_MIB * MIB:
            if forks:
                trial.host.start(path, 10)  # a younger one each time, so that the newest is never the culprit
            await trial.round()
            assert trial.host.now - began < 10
        took.append(max(killed.at for killed in trial.host.killed) - began)
        for task in [task for task in trial.host.tasks.values() if task.path == path]:
            del trial.host.tasks[task.pid]
    assert len(took) == 100
    assert max(took) <= ENDED_IN_S


async def test_nobody_innocent_is_ended_in_ten_thousand_trials(tmp_path: Path):
    """A trial is the end of a process. Ids are given away, processes move, fork and end between any two questions."""
    trial = await Trial(tmp_path, 11, 0.05).ready()
    host = trial.host
    over: set[str] = set()
    judged = 0
    while len(host.killed) < 10_000:
        host.still = True
        trial.fill()
        over |= {path for path, used in host.by_path().items() if path and used > LIMIT_MIB * MIB}
        host.still = False
        await trial.round()
        for killed in host.killed[judged:]:
            assert killed.path in over or _grew(trial, killed.path), f"{killed} was of no container over its limit"
        judged = len(host.killed)
    assert {killed.path for killed in host.killed} <= over


def _grew(trial: Trial, path: str) -> bool:
    """Over its limit since the last count: what a process that was given an id away brought along."""
    return trial.host.used(path) > LIMIT_MIB * MIB
