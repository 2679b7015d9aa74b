"""The pool's controller: watches feed the book, workers take steps, gates are answered; of all this only the leader's
counts."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tessera.kube import wire
from tessera.kube.connection import connect
from tessera.kube.errors import KubeError
from tessera.kube.events import EventRecorder
from tessera.kube.gateway import Gateway
from tessera.kube.lease import LeaderLease
from tessera.kube.reflector import Reflector
from tessera.kube.resources import GPU_LEASES, PODS
from tessera.lifetime import Parts
from tessera.model import names
from tessera.remote.controller.acting import Acting
from tessera.remote.controller.authority import Authority
from tessera.remote.controller.book import Book
from tessera.remote.controller.callers import Callers
from tessera.remote.controller.keeper import Keeper
from tessera.remote.controller.keys import authority_in, publish
from tessera.remote.controller.metrics import Metrics
from tessera.remote.controller.pool import PoolServer, PoolService
from tessera.remote.controller.reading import ClientPod, client_pod
from tessera.remote.controller.settings import ControllerSettings
from tessera.serving import Server

log = structlog.get_logger()

PUBLISH_S = 60.0
"""The ConfigMap is looked after this often."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class Service:
    """Everything that ``tessera pool-controller`` runs. ``failed`` completes if a part of it dies."""

    def __init__(
        self,
        settings: ControllerSettings,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings, self._now, options = settings, now, settings.options()
        gateway = self.gateway = Gateway(connect(settings), timeout_s=settings.request_timeout_s)
        self.recorder = EventRecorder(gateway, "tessera-pool", host=socket.gethostname())
        identity = settings.identity or f"{socket.gethostname()}_{os.urandom(4).hex()}"
        self.lease = LeaderLease(
            gateway, settings.lease_namespace, settings.lease_name, identity, duration_s=settings.lease_s
        )
        acting = Acting(gateway, options, self.recorder, now)
        leads = partial(self.leads, settings.request_timeout_s)
        self.keeper = Keeper(acting, leads, clock, settings.move_deadline_s)
        self.book = Book(options.port, self.keeper.touch)
        self.metrics = Metrics(self.book)
        account = options.service_account
        self._callers = Callers(gateway, self.book, options.namespace, account, settings.sessions, clock)
        self._leases: Reflector[wire.GpuLease] = Reflector(gateway, GPU_LEASES, self.book.take_lease)
        self._executors: Reflector[wire.Pod] = Reflector(
            gateway, PODS, self.book.take_executor, namespace=options.namespace, label_selector=names.LEASE_UID
        )
        self._clients: Reflector[ClientPod] = Reflector(gateway, PODS, self.book.take_client, keep=client_pod)
        # Without TLS: it tells no more than counts, and the kubelet asks it.
        self._web = Server(self._app(), settings.host, settings.metrics_port, plain_text=True)
        self._pool: PoolServer | None = None
        self._parts = Parts()

    @property
    def synced(self) -> bool:
        return self._leases.synced and self._executors.synced and self._clients.synced

    @property
    def port(self) -> int:
        """Where gates call."""
        assert self._pool is not None, "not started"
        return self._pool.port

    @property
    def url(self) -> str:
        """Of metrics and readiness."""
        return self._web.url

    def leads(self, seconds: float = 0.0) -> bool:
        """Whether this controller knows the cluster, and no other leads within so many seconds."""
        return self.synced and self.lease.valid_for(seconds)

    async def start(self) -> None:
        """Returns once gates are answered, those of a controller that does not lead with UNAVAILABLE."""
        await self.gateway.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        authority = await authority_in(self.gateway, settings.lease_namespace, settings.authority_secret, self._now)
        service = PoolService(
            self._callers, self.book, authority, self.metrics, self.leads, self._now, settings.sessions
        )
        self._pool = PoolServer(service, authority, settings.host, settings.port, self._now)
        parts: dict[str, Coroutine[Any, Any, Any]] = {
            "leases": self._leases.run(),
            "executors": self._executors.run(),
            "clients": self._clients.run(),
            "lease": self.lease.run(),
            "events": self.recorder.run(),
            "keeper": self.keeper.run(self.book),
            "authority": self._publish(authority),
        }
        self._parts.start(parts)
        await self._pool.start()
        await self._web.start()
        log.info("listening", gates=self._pool.port, metrics=self.url)

    async def stop(self) -> None:
        """Stops answering, then gives the lease back, so that the next leader need not wait for its end."""
        if self._pool is not None:
            await self._pool.stop()
        await self._web.stop()
        await self._parts.stop()
        with contextlib.suppress(KubeError):
            await self.lease.release()
        await self.gateway.__aexit__(None, None, None)

    async def failed(self) -> None:
        """Returns only by raising what ended one of the parts."""
        await self._parts.failed()

    async def wait_ready(self) -> None:
        """Until this process leads and has read the cluster."""
        for reflector in (self._leases, self._executors, self._clients):
            await reflector.wait_synced()
        await self.lease.wait_leading()
        for record in self.book.leases():
            self.keeper.touch(record.known.key)

    async def _publish(self, authority: Authority) -> None:
        settings = self._settings
        while True:
            await self.lease.wait_leading()
            try:
                for namespace in {settings.lease_namespace, settings.pool_namespace}:
                    await publish(self.gateway, namespace, settings.authority_config_map, authority)
            except KubeError as error:
                log.warning("authority not published", error=str(error))
            await asyncio.sleep(PUBLISH_S)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/readyz", self._readyz),
                Route("/healthz", _healthz),
                Route("/metrics", self._metrics),
            ]
        )

    async def _readyz(self, _: Request) -> Response:
        return PlainTextResponse("ok", 200) if self.leads() else PlainTextResponse("does not lead", 503)

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type="text/plain; version=0.0.4")


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")
