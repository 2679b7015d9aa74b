"""``tessera up``: an embedded cluster of many light hosts under the real scheduler, for as long as it is wanted.

The API server, the dashboard and the stand-ins for Kubernetes' own parts share this process; the scheduler service has
one of its own, so that its answers and its memory are what they would be on a real cluster. When the extender knows
every node, one line says where it listens; SIGINT or SIGTERM ends everything.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from tessera import heap
from tessera.command_line import CommandLine
from tessera.dashboard.service import SettingsError
from tessera.kube.errors import KubeError
from tessera.model import names
from tessera.model.quantities import QuantityError, format_bytes, parse_whole
from tessera.settings import LogSettings
from tessera.simulator.cluster import ClusterPlan, EmbeddedCluster
from tessera.simulator.hosts import Host, HostPlan, Surroundings
from tessera.simulator.light_hosts import POD_CORE_PERCENT, POD_MEM_BYTES, LightHost, LightKubelet, Shape
from tessera.simulator.scheduler_process import SchedulerError, SchedulerProcess
from tessera.telemetry import configure_logging

LOGGING = CommandLine("tessera up", None, (LogSettings,))
MODEL = Shape().model
_MIB = 1 << 20
_LARGEST_GPU = 1 << 40
_ROUND_S, _QUIET_ROUNDS = 0.05, 6


class UpError(Exception):
    """The cluster cannot be started or went down; the text is one sentence."""


class OptionError(UpError):
    """An option cannot be used; the text names it, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. Port 0 takes a free one. ``pods``: bound ones that are there from the start."""

    nodes: int = 100
    gpus_per_node: int = 8
    gpu_mem: str = "80Gi"
    model: str = MODEL
    pods: int = 0
    port: int = 0
    dashboard_port: int = 0
    seed: int = 0
    as_json: bool = False
    timeout_s: float = 120.0
    verbose: bool = False

    def shape(self) -> Shape:
        """The GPUs of each host. Raises ``OptionError``."""
        mem_bytes = _bytes(self.gpu_mem)
        each = -(-self.pods // self.nodes)
        most = min(mem_bytes // POD_MEM_BYTES, 100 // POD_CORE_PERCENT) * self.gpus_per_node
        if each > most:
            raise OptionError(f"--pods: found {self.pods}; allowed: at most {most * self.nodes} on {self.nodes} nodes")
        return Shape(self.model, mem_bytes)


def run(options: Options) -> int:
    """Stays up until it is told to end; answers the exit status. Raises ``UpError`` or ``Unusable``."""
    level = "info" if options.verbose else "error"
    configure_logging(LOGGING.read(["--log-level", level]).of(LogSettings))
    shape = options.shape()
    try:
        return uvloop.run(_until_stopped(options, shape))
    except (SchedulerError, SettingsError, KubeError, OSError, TimeoutError) as error:
        raise UpError(str(error) or f"the cluster was not ready within {options.timeout_s:g} s") from error


async def _until_stopped(options: Options, shape: Shape) -> int:
    task = asyncio.create_task(_Up(options, shape).run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _cancel_once, task)
    with suppress(asyncio.CancelledError):
        await task
    return 0


def _cancel_once(task: "asyncio.Task[None]") -> None:
    """A second signal does not disturb the tidying up."""
    if not task.cancelling():
        task.cancel()


class _Up:
    """One run, from the first object to the last signal."""

    def __init__(self, options: Options, shape: Shape) -> None:
        self._options, self._shape = options, shape
        self._began = time.monotonic()
        width = len(str(options.nodes))
        self._names = [f"gpu-{index:0{width}}" for index in range(1, options.nodes + 1)]
        plans = [HostPlan(name, ("light",) * options.gpus_per_node) for name in self._names]
        plan = ClusterPlan(
            plans, options.seed, dashboard_port=options.dashboard_port, extender_port=options.port, parallel_starts=64
        )
        self._cluster = EmbeddedCluster(
            plan, host_of=self._host, scheduler_of=SchedulerProcess, library_of=Path, told=self._tell
        )

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            with heap.filling():
                cluster = await stack.enter_async_context(self._cluster)
                kubelet = asyncio.create_task(LightKubelet(cluster.api.store).run())
                failed = asyncio.create_task(cluster.failed())
                stack.push_async_callback(_ended, kubelet, failed)
                async with asyncio.timeout(self._options.timeout_s):
                    await cluster.ready()
                    await self._known_to_extender()
                    await _settled()
            self._tell(f"API server: {cluster.api.url}")
            self._print()
            await asyncio.wait([failed, kubelet], return_when=asyncio.FIRST_COMPLETED)
            (failed if failed.done() else kubelet).result()

    def _host(self, plan: HostPlan, _: Surroundings) -> Host:
        """The pods are dealt out evenly, the first hosts take what is left over."""
        each, over = divmod(self._options.pods, self._options.nodes)
        pods = each + (self._names.index(plan.name) < over if over else 0)
        shape = Shape(self._shape.model, self._shape.mem_bytes, pods)
        return LightHost(plan, shape, self._cluster.api.store)

    async def _known_to_extender(self) -> None:
        """Until no node is without GPUs for it; the question of a pod that never was leaves one arrival."""
        left = self._names
        async with aiohttp.ClientSession() as session:
            while left:
                async with session.post(f"{self._cluster.scheduler.url}/filter", json=_probe(left)) as response:
                    answer = await response.json()
                if not answer["Error"]:
                    if len(answer["FailedNodes"]) == len(left):
                        return  # they are full
                    passed = set(answer["NodeNames"])
                    left = [name for name in left if name not in passed]
                await asyncio.sleep(0.1 if left else 0)

    def _print(self) -> None:
        found = {"extender": self._cluster.scheduler.url, "dashboard": self._cluster.dashboard_url}
        if self._options.as_json:
            _write(json.dumps({**found, "nodes": self._names}))
            return
        options = self._options
        gpus = f"{options.gpus_per_node} GPUs of {format_bytes(self._shape.mem_bytes)}"
        _write(f"{options.nodes} nodes with {gpus} each, {options.pods} pods bound")
        for name, url in {**found, "API server": self._cluster.api.url}.items():
            _write(f"{name + ':':12} {url}")
        _write("Ctrl-C ends it")

    def _tell(self, text: str) -> None:
        """Progress; if nobody listens any more, that stops nothing."""
        with suppress(OSError):
            print(f"[{time.monotonic() - self._began:5.1f} s] {text}", file=sys.stderr, flush=True)


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _settled() -> None:
    """Until this process, whose parts all read the cluster at their start, answers at once again."""
    loop, quiet = asyncio.get_running_loop(), 0
    while quiet < _QUIET_ROUNDS:
        before = loop.time()
        await asyncio.sleep(_ROUND_S)
        quiet = quiet + 1 if loop.time() - before < 2 * _ROUND_S else 0


def _probe(nodes: Sequence[str]) -> dict[str, object]:
    limits = {names.GPU_MEM: "1Mi", names.SLICE: "1"}
    pod = {
        "metadata": {"name": "probe", "namespace": "tessera-system", "uid": "probe"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
    }
    return {"Pod": pod, "NodeNames": list(nodes)}


def _bytes(text: str) -> int:
    try:
        found = parse_whole(text)
    except QuantityError:
        found = 0
    if not _MIB <= found <= _LARGEST_GPU:
        raise OptionError(f"--gpu-mem: found {text!r}; allowed: a quantity from 1Mi to 1Ti, such as 80Gi")
    return found // _MIB * _MIB


def _write(line: str) -> None:
    if sys.stdout is None:
        raise UpError("the addresses cannot be written: standard output is closed")
    print(line, flush=True)
