"""``tessera demo``: the embedded cluster with the examples in it, watched until they have come out as they must.

With ``once`` it ends there; otherwise it shows a live table until it is told to stop. Progress goes to standard error,
the result to standard output. Exit status 0 only if every expectation held.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.live import Live

from tessera.command_line import CommandLine
from tessera.dashboard.service import SettingsError
from tessera.kube.errors import KubeError
from tessera.settings import LogSettings
from tessera.simulator.cluster import ClusterPlan, EmbeddedCluster
from tessera.simulator.expectations import Expectation, expected, template_pod, unmet
from tessera.simulator.fakes.nvml.build import BuildError
from tessera.simulator.hosts import HostError
from tessera.simulator.manifests import EXAMPLES, Manifest, ManifestError, load, submit
from tessera.simulator.observation import Observation, observe
from tessera.simulator.report import Report, report_of
from tessera.simulator.screen import page, verdict
from tessera.telemetry import configure_logging

INTERRUPTED = 130
POLL_S = 0.25
LOGGING = CommandLine("tessera demo", None, (LogSettings,))
HELD = "all came out as expected"


class Output(StrEnum):
    """The form of the result."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. ``timeout_s``: for the start, and again for the examples to come out."""

    once: bool = False
    output: Output = Output.TABLE
    manifests: Sequence[Path] = (EXAMPLES,)
    port: int = 0
    seed: int = 0
    timeout_s: float = 120.0
    verbose: bool = False


class DemoError(Exception):
    """The demo cannot go on; the text is one sentence."""


def run(options: Options) -> int:
    """Runs the demo; answers the exit status. Raises ``DemoError`` or ``Unusable`` with one sentence."""
    level = "info" if options.verbose else "error"
    configure_logging(LOGGING.read(["--log-level", level]).of(LogSettings))
    try:
        return asyncio.run(_until_stopped(options, load(options.manifests)))
    except (ManifestError, HostError, BuildError, SettingsError, KubeError, OSError) as error:
        raise DemoError(str(error)) from error


async def _until_stopped(options: Options, manifests: Sequence[Manifest]) -> int:
    """SIGINT and SIGTERM end the demo, which then tidies up; a second one does not disturb that."""
    demo = _Demo(options, manifests)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, demo.stop)
    try:
        return await demo.task
    except asyncio.CancelledError:
        return INTERRUPTED


class _Demo:
    """One run. ``task`` answers the exit status."""

    def __init__(self, options: Options, manifests: Sequence[Manifest]) -> None:
        self._options, self._manifests = options, manifests
        self._out = Console()
        self._started = time.monotonic()
        self._live = False
        self._stopped = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Ends the live table, or breaks off whatever comes before it."""
        if not (self._live or self._stopped.is_set()):
            self.task.cancel()
        self._stopped.set()

    async def _run(self) -> int:
        plan = ClusterPlan(seed=self._options.seed, dashboard_port=self._options.port)
        async with EmbeddedCluster(plan, told=self._tell) as cluster:
            failed, story = asyncio.create_task(cluster.failed()), asyncio.create_task(self._story(cluster))
            try:
                await asyncio.wait([failed, story], return_when=asyncio.FIRST_COMPLETED)
                if not story.done():
                    failed.result()
                report = story.result()
            finally:
                for task in (failed, story):
                    task.cancel()
                await asyncio.gather(failed, story, return_exceptions=True)
        try:
            self._print(report)
        except OSError as error:
            raise DemoError(f"the result cannot be written: {error.strerror}") from error
        return 0 if report.violations == 0 else 1

    async def _story(self, cluster: EmbeddedCluster) -> Report:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await cluster.ready()
        except TimeoutError:
            raise DemoError(f"the hosts were not ready within {self._options.timeout_s:g} s") from None
        self._tell(f"dashboard: {cluster.dashboard_url}")
        self._tell(f"submitting {len(self._manifests)} manifests")
        await submit(cluster.gateway, self._manifests)
        watch = _Watch(cluster, self._manifests)
        await watch.prepare()
        return await (self._settled(watch) if self._options.once else self._watched(cluster, watch))

    async def _settled(self, watch: "_Watch") -> Report:
        """The report when every expectation holds, or when time is up."""
        deadline = time.monotonic() + self._options.timeout_s
        while True:
            report = await watch.report()
            if not report.violations or time.monotonic() > deadline:
                self._tell("time is up" if report.violations else HELD)
                return report
            await asyncio.sleep(POLL_S)

    async def _watched(self, cluster: EmbeddedCluster, watch: "_Watch") -> Report:
        """A live table, where there is a terminal, until the user has seen enough."""
        note = "Ctrl-C ends the demo"
        self._live, terminal, told = True, self._out.is_terminal, False
        with Live(console=self._out, auto_refresh=False, screen=True) if terminal else nullcontext() as live:
            while True:
                report = await watch.report()
                if live:
                    live.update(page(report, url=cluster.dashboard_url, note=note), refresh=True)
                elif not (told or report.violations):
                    self._tell(HELD)
                    told = True
                if self._stopped.is_set():
                    return report
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), 2 * POLL_S)

    def _print(self, report: Report) -> None:
        if sys.stdout is None:
            raise DemoError("the result cannot be written: standard output is closed")
        if self._options.output is Output.JSON:
            print(json.dumps(report.plain()), flush=True)
        else:
            self._out.print(page(report))
            self._out.print(verdict(report))
        if self._options.output is Output.JSON and report.violations:
            print(verdict(report).plain, file=sys.stderr)

    def _tell(self, text: str) -> None:
        """Progress; if nobody listens any more, that stops nothing."""
        with suppress(OSError):
            print(f"[{time.monotonic() - self._started:5.1f} s] {text}", file=sys.stderr, flush=True)


class _Watch:
    """Looks at the cluster again and again, with the manifests' expectations in hand."""

    def __init__(self, cluster: EmbeddedCluster, manifests: Sequence[Manifest]) -> None:
        self._cluster, self._manifests = cluster, manifests
        self._expectations: list[Expectation] = []

    async def prepare(self) -> None:
        """Derives what must come of the manifests, from the objects as they are stored."""
        seen = await self._look()
        for manifest in self._manifests:
            stored = await self._cluster.gateway.get(manifest.resource, manifest.name, namespace=manifest.namespace)
            self._expectations.append(expected(manifest, template_pod(stored, manifest), seen.nodes))

    async def report(self) -> Report:
        """The cluster as it is now."""
        seen = await self._look()
        return report_of(seen, unmet(self._expectations, seen))

    async def _look(self) -> Observation:
        return await observe(self._cluster.gateway, self._cluster.hosts)
