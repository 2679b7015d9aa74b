"""The scheduler process: reflectors feed the engine, the extender answers kube-scheduler, the webhook the API server.

Only the leader answers the extender's verbs, and only after it has read all pods, nodes and GPUs since it became
leader's candidate; the webhook answers always, because it needs no state.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from operator import attrgetter
from typing import Any

import structlog
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tessera.kube.connection import connect
from tessera.kube.convert import gpu_node_of, host_of, namespace_of, pod_reference
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.reflector import Change, Reflector, Told
from tessera.kube.resources import GPU_LEASES, GPU_NODES, NAMESPACES, NODES, PODS
from tessera.lifetime import Parts
from tessera.model.domains import Namespace
from tessera.model.gpu_leases import GpuLease
from tessera.model.gpus import GpuNode
from tessera.model.hosts import Host
from tessera.model.placements import Placement
from tessera.model.pods import Pod
from tessera.reasons import Code, Reason
from tessera.scheduler.bereaved import Bereaved
from tessera.scheduler.binder import Binder
from tessera.scheduler.dismissals import Dismissals
from tessera.scheduler.engine import Engine
from tessera.scheduler.extender import Extender
from tessera.scheduler.holders import Holders
from tessera.scheduler.left_leases import LeftLeases
from tessera.scheduler.metrics import Metrics
from tessera.scheduler.nominations import Nominations
from tessera.scheduler.notes import note_of, recall, settings_note
from tessera.scheduler.options import Options
from tessera.scheduler.others import Others
from tessera.scheduler.preemptor import Preemptor
from tessera.scheduler.relocator import Relocator
from tessera.scheduler.rescue import Allowance, Rescue
from tessera.scheduler.room import Bell
from tessera.scheduler.settings import SchedulerSettings
from tessera.scheduler.warming import bring, warm
from tessera.scheduler.watching import (
    brief_pod_of,
    held_lease_of,
    host_sink,
    lease_sink,
    namespace_sink,
    node_sink,
    pod_sink,
)
from tessera.scheduler.webhook.rewrite import Options as WebhookOptions
from tessera.scheduler.webhook.routes import routes as webhook_routes
from tessera.serving import Server, straight

_EXPIRY_PERIOD_S = 1.0

log = structlog.get_logger()


class Service:
    """Everything that ``tessera scheduler`` runs. ``failed`` completes if a part of it dies."""

    def __init__(
        self,
        settings: SchedulerSettings,
        clock: Callable[[], float] = time.monotonic,
        compiling: Callable[..., None] = warm,
    ) -> None:
        self._settings = settings
        self.engine = Engine(clock, _options(settings))
        self.metrics = Metrics(self.engine)
        self.gateway = Gateway(connect(settings), timeout_s=settings.request_timeout_s, compressed=False)
        self.recorder = EventRecorder(self.gateway, "tessera-scheduler", host=socket.gethostname())
        identity = settings.identity or f"{socket.gethostname()}_{os.urandom(4).hex()}"
        self.lease = LeaderLease(
            self.gateway, settings.lease_namespace, settings.lease_name, identity, duration_s=settings.lease_s,
            notes=self._notes,
        )  # fmt: skip
        self.binder = Binder(
            self.engine, self.gateway, self.lease, self.recorder, self.metrics.binding_ended, clock=clock
        )
        gateway, engine = self.gateway, self.engine
        self.nominations = Nominations(engine, clock)
        self._holders = Holders(engine.leases, clock)
        dismissals = Dismissals(gateway, self.lease, self.recorder, clock)
        self.preemptor = Preemptor(
            engine, self._holders, self.nominations, gateway, self.lease, self.recorder, dismissals,
            self.metrics.preempted, allowed=settings.preemption,
        )  # fmt: skip
        self._bereaved: Bereaved | None = None
        if settings.pool_enabled and settings.preemption:
            self._bereaved = Bereaved(
                engine.leases, self._holders, dismissals, self._leads, self.metrics.preempted, clock
            )
        self.relocator: Relocator | None = None
        if engine.relocations is not None:
            self.relocator = Relocator(
                engine.relocations, engine.leases, gateway, self.lease, self.recorder, self._leads,
                self.metrics.relocations, clock,
            )  # fmt: skip
        self._left = LeftLeases(engine, gateway, self._leads, clock)
        self._pods: Reflector[Pod] = Reflector(
            gateway, PODS, self._observe_pods, keep=brief_pod_of, key=attrgetter("uid")
        )
        self._nodes: Reflector[GpuNode] = Reflector(
            gateway, GPU_NODES, lambda c: node_sink(engine, c), keep=gpu_node_of
        )
        self._hosts: Reflector[Host] = Reflector(gateway, NODES, lambda c: host_sink(engine, c), keep=host_of)
        # Only a label is looked up: else there is nothing to read, and no right to.
        self._namespaces: Reflector[Namespace] | None = None
        if engine.domains.rule.label:
            self._namespaces = Reflector(gateway, NAMESPACES, lambda c: namespace_sink(engine, c), keep=namespace_of)
        self._gpu_leases: Reflector[GpuLease] | None = None
        if settings.pool_enabled:
            self._gpu_leases = Reflector(gateway, GPU_LEASES, self._observe_leases, keep=held_lease_of)
        self._extender = Server(self._extender_app(), settings.host, settings.port, settings.extender_tls)
        self._webhook = Server(self._webhook_app(), settings.host, settings.webhook_port, settings.webhook_tls)
        self._compiling, self._compiled = compiling, asyncio.Event()
        self._parts = Parts()
        self._recalled = False

    async def start(self) -> None:
        """Returns once both servers listen; the extender answers errors until it leads and has read the cluster."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await self.gateway.__aenter__()
        bell = Bell(self.engine, self.gateway, lambda: str(time.time_ns()), self._leads)
        parts: dict[str, Coroutine[Any, Any, Any]] = {
            "policies": self._compile(),
            "pods": self._pods.run(),
            "gpunodes": self._nodes.run(),
            "nodes": self._hosts.run(),
            "lease": self.lease.run(),
            "events": self.recorder.run(),
            "room": bell.run(),
            "expiry": self._expire(),
            "preemption": self.preemptor.run(),
        }
        if self._settings.rescue_moves:
            parts["rescue"] = self._rescue().run()
        if self._namespaces is not None:
            parts["namespaces"] = self._namespaces.run()
        if self._gpu_leases is not None:
            parts["gpuleases"] = self._gpu_leases.run()
            parts["left leases"] = self._left.run()
        if self._bereaved is not None:
            parts["bereaved"] = self._bereaved.run()
        if self.relocator is not None:
            parts["relocation"] = self.relocator.run()
        self._parts.start(parts)
        await self._webhook.start()
        await self._extender.start()
        log.info("listening", extender=self.url, webhook=self.webhook_url)

    async def stop(self) -> None:
        """Stops answering, then gives the lease back, so that the next leader need not wait for its end.

        A Binding or a target that may still come true keeps the lease to its end: the next leader must not miss it.
        """
        await self._extender.stop()
        await self._webhook.stop()
        await self.binder.close()
        await self._parts.stop()
        if self.binder.in_doubt or (self.relocator is not None and self.relocator.in_doubt):
            log.warning("lease kept to its end: the outcome of a Binding or of a lease's target is not known")
        else:
            await self.lease.release()
        await self.gateway.__aexit__(None, None, None)

    async def failed(self) -> None:
        """Returns only by raising what ended one of the parts."""
        await self._parts.failed()

    async def wait_ready(self) -> None:
        """Until this process leads, has read the cluster and can decide at once."""
        await self.wait_synced()
        await self._compiled.wait()
        await self.lease.wait_leading()

    async def wait_synced(self) -> None:
        """Until this process has read the cluster."""
        await self._pods.wait_synced()
        await self._nodes.wait_synced()
        await self._hosts.wait_synced()
        if self._namespaces is not None:
            await self._namespaces.wait_synced()
        if self._gpu_leases is not None:
            await self._gpu_leases.wait_synced()

    @property
    def url(self) -> str:
        return self._extender.url

    @property
    def webhook_url(self) -> str:
        return f"{self._webhook.url}/mutate"

    def gate(self) -> Reason | None:
        """Why the verbs may not be answered now, or ``None``."""
        if not (self._pods.synced and self._nodes.synced and self._hosts.synced):
            return Reason(Code.NOT_SYNCED, "tessera-scheduler has not read all pods, nodes and GPUs yet")
        if self._namespaces is not None and not self._namespaces.synced:
            return Reason(Code.NOT_SYNCED, "tessera-scheduler has not read all namespaces yet")
        if self._gpu_leases is not None and not self._gpu_leases.synced:
            return Reason(Code.NOT_SYNCED, "tessera-scheduler has not read all GPULeases yet")
        if not self.lease.leading:
            return Reason(Code.NOT_LEADER, "this tessera-scheduler does not lead")
        if not self._compiled.is_set():
            return Reason(Code.NOT_SYNCED, "tessera-scheduler is still compiling its placement policies")
        return None

    def _leads(self) -> bool:
        """Whether this process may decide now."""
        return self.gate() is None

    async def _compile(self) -> None:
        """In a thread, because it may take long; then there is nothing more to do, for ever."""
        started = time.monotonic()
        if self._settings.compiled_dir is not None:
            await asyncio.to_thread(bring, self._settings.compiled_dir, os.environ.get("NUMBA_CACHE_DIR"))
        # Pods may name any placement, whatever the setting says.
        await asyncio.to_thread(self._compiling, *dict.fromkeys((self._settings.placement, *Placement)))
        log.info("placement policies are ready", seconds=round(time.monotonic() - started, 2))
        self._compiled.set()
        await asyncio.Event().wait()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_PERIOD_S)
            self._recall()
            self.binder.settle_late(self.engine.expire())
            await self.binder.look_up_leases()
            self.preemptor.aim()
            self.nominations.settle()

    def _notes(self) -> dict[str, str]:
        """How we decide; what the next leader should know and no object tells, once we know what the last one knew."""
        known = note_of(self.engine.arrivals.workload) if self._recalled else {}
        return {**settings_note(self.engine.options), **known}

    def _recall(self) -> None:
        """Once, when the cluster has been read; from then on what is seen of it counts."""
        if not self._recalled and self._pods.synced and self.lease.annotations is not None:
            recall(self.engine.arrivals.workload, self.lease.annotations)
            self._recalled = True

    def _observe_pods(self, change: Told[Pod]) -> None:
        pod_sink(self.engine, change)
        self._holders.observe(change)
        self.nominations.observe(change)
        if self._bereaved is not None:
            self._bereaved.observe(change)

    def _observe_leases(self, change: Change[GpuLease]) -> None:
        lease_sink(self.engine, change)
        self.nominations.settle()

    def _rescue(self) -> Rescue:
        allowance = Allowance(self._settings.rescue_moves, self._settings.rescue_after_s)
        return Rescue(
            self.engine, self.nominations, self.gateway, self.recorder, allowance, self._leads, self.metrics.moves,
        )  # fmt: skip

    def _refused(self, pod: Pod, reason: Reason, nodes: list[str], alone: bool) -> None:
        if alone:
            self.preemptor.consider_later(pod, nodes)
            return
        self.preemptor.consider(pod, reason, nodes)
        self.metrics.refusals.labels(reason.code).inc()
        if reason.code not in (Code.OUTCOME_UNKNOWN, Code.BINDING_REFUSED):
            self.recorder.record(pod_reference(pod), "Warning", "NoRoom", reason.text)

    def _extender_app(self) -> Callable[..., Awaitable[None]]:
        extender = Extender(
            self.engine, self.binder, self.gate, self._refused, self.metrics.verb_seconds, self.preemptor
        )
        return straight([*extender.routes(), Others(self.engine, self.gate).route()])

    def _webhook_app(self) -> Starlette:
        settings = self._settings
        options = WebhookOptions(
            settings.scheduler_name, settings.tolerate, settings.pool_enabled, frozenset(settings.compatibility)
        )
        own = [Route("/readyz", self._readyz), Route("/healthz", _healthz), Route("/metrics", self._metrics)]
        return Starlette(routes=[*webhook_routes(options), *own])

    async def _readyz(self, _: Request) -> Response:
        reason = self.gate()
        return PlainTextResponse(reason.text if reason else "ok", 503 if reason else 200)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type="text/plain; version=0.0.4")


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


def _options(settings: SchedulerSettings) -> Options:
    return Options(
        settings.placement,
        settings.enforcement,
        settings.order_seed,
        filter_chooses=settings.filter_answers == "chosen",
        hold_s=settings.hold_s,
        trust_domain=settings.trust_domain,
        context_bytes=settings.context_bytes,
        pool=settings.pool,
    )
