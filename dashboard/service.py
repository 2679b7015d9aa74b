"""The dashboard as one object: start it, read its ``url``, stop it.

It follows pods, GPUNodes, GPULeases and ``NoRoom`` events through the gateway and serves them. A collection that
cannot be followed does not stop it: the page says what is missing and since when. Leases are missed only where nodes
have slots for clients.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from tessera.dashboard.api import build_app
from tessera.dashboard.auth import Gate, KubernetesGate, Mode, OpenGate, ReviewError
from tessera.dashboard.cluster import Cluster
from tessera.dashboard.feed import Feed, Source
from tessera.dashboard.settings import DashboardSettings
from tessera.dashboard.verbs import verbs
from tessera.kube.connection import Connection, as_bearer
from tessera.kube.errors import ApiError, KubeError
from tessera.kube.gateway import Gateway
from tessera.kube.reflector import Reflector
from tessera.kube.resources import EVENTS, GPU_LEASES, GPU_NODES, PODS, TOKEN_REVIEWS, Plain, Resource
from tessera.serving import Server, Tls

SILENT_S = 90.0
"""Bookmarks come about once a minute, so longer silence means that nobody is there."""
CHECK_S = 2.0
LOG = structlog.get_logger()

_REVIEWS = {
    TOKEN_REVIEWS.path(): TOKEN_REVIEWS,
    "/apis/authorization.k8s.io/v1/subjectaccessreviews": Resource[Plain](
        "authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", False, dict
    ),
}


class SettingsError(ValueError):
    """The settings must not be served like this; the text is one sentence."""


class GatewayReviews:
    """Asks the API server for reviews."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def review(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await self._gateway.create(_REVIEWS[path], dict(body))
        except KubeError as error:
            raise ReviewError(str(error)) from error


class Service:
    """One dashboard. ``async with Service(...) as service`` starts and stops it."""

    def __init__(self, settings: DashboardSettings, connection: Connection, *, request_timeout_s: float = 10.0) -> None:
        if refusal := settings.refusal():
            raise SettingsError(refusal)
        self._settings, self._connection, self._timeout_s = settings, connection, request_timeout_s
        self._stack = contextlib.AsyncExitStack()
        self.feed = Feed(secrets.token_hex(4))
        self.url = ""

    async def __aenter__(self) -> "Service":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begins to listen and to follow; returns when requests are answered, which may be before the first list."""
        async with contextlib.AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(Gateway(self._connection, timeout_s=self._timeout_s))
            await stack.enter_async_context(self._following(gateway))
            self.url = await stack.enter_async_context(self._serving(gateway))
            self._stack = stack.pop_all()
        LOG.info("the dashboard listens", url=self.url, auth=str(self._settings.auth))

    async def stop(self) -> None:
        """Ends the streams, the server and the watches."""
        self.feed.close()
        await self._stack.aclose()

    @asynccontextmanager
    async def _following(self, gateway: Gateway) -> AsyncIterator[None]:
        cluster = Cluster()
        nodes = Reflector(gateway, GPU_NODES, cluster.take_node)
        pods = Reflector(gateway, PODS, cluster.take_pod)
        events = Reflector(gateway, EVENTS, cluster.take_event, field_selector="reason=NoRoom")
        leases = Reflector(gateway, GPU_LEASES, cluster.take_lease)
        jobs = [nodes.run(), pods.run(), events.run(), leases.run(), self._publish(cluster, nodes, pods)]
        jobs.append(self._watch_source(gateway, cluster, {"gpunodes": nodes, "pods": pods}, {"gpuleases": leases}))
        tasks = [asyncio.create_task(job) for job in jobs]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """None of the jobs ends by itself: one that does has a bug, and the liveness probe says so."""
        if not task.cancelled() and (error := task.exception()):
            LOG.error("the dashboard cannot go on", exc_info=error)
            self.feed.broken = f"{type(error).__name__}: {error}"

    async def _publish(self, cluster: Cluster, *needed: Reflector[Any]) -> None:
        for reflector in needed:
            await reflector.wait_synced()
        await cluster.publish_to(self.feed)

    async def _watch_source(
        self,
        gateway: Gateway,
        cluster: Cluster,
        always: Mapping[str, Reflector[Any]],
        pooled: Mapping[str, Reflector[Any]],
    ) -> None:
        while True:
            needed = {**always, **pooled} if cluster.pooled else always
            self.feed.follow(source_of(needed, await _silence(gateway)))
            await asyncio.sleep(CHECK_S)

    @asynccontextmanager
    async def _serving(self, gateway: Gateway) -> AsyncIterator[str]:
        settings = self._settings
        changes = verbs(self._open_as, self._no_verbs())
        app = build_app(self.feed, self._gate(gateway), changes, loopback_only=settings.auth is Mode.NONE)
        tls = Tls(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None
        server = Server(app, settings.host, settings.port, tls, plain_text=True)
        try:
            await server.start()
        except OSError as error:
            raise SettingsError(f"listen: {settings.listen} cannot be used: {error}") from error
        try:
            yield server.url
        finally:
            self.feed.close()
            await server.stop()

    def _open_as(self, token: str) -> Gateway:
        return Gateway(as_bearer(self._connection, token), timeout_s=self._timeout_s, user_agent="tessera-dashboard")

    def _no_verbs(self) -> str:
        """Why nothing may be changed from here; empty if it may.

        Plain HTTP leads to something, such as ``kubectl proxy``, that may have an identity of its own: whoever reached
        the dashboard's port would then act as that, whatever token was shown.
        """
        if self._settings.auth is Mode.NONE or self._connection.ssl is not None:
            return ""
        return f"server: found {self._connection.server}; allowed for changes: an API server over https"

    def _gate(self, gateway: Gateway) -> Gate:
        if self._settings.auth is Mode.NONE:
            return OpenGate()
        if not self._settings.loopback and not self._settings.tls_cert:
            LOG.warning("bearer tokens come over plain HTTP: let a proxy in front end TLS, or set tls_cert and tls_key")
        return KubernetesGate(GatewayReviews(gateway), time.monotonic)


def source_of(reflectors: Mapping[str, Reflector[Any]], silence: str) -> Source:
    """Whether all ``reflectors`` follow their collections; ``silence`` says why the API server does not answer."""
    for name, reflector in reflectors.items():
        if not reflector.synced:
            return Source(False, silence or f"{name} have not been listed yet")
        if reflector.age_s > SILENT_S:
            return Source(False, silence or f"no word about {name} for over {int(SILENT_S)} s")
    return Source(not silence, silence)


async def _silence(gateway: Gateway) -> str:
    """Why the API server does not answer, empty if it does; a refusal is an answer."""
    try:
        await gateway.send("GET", "/version")
    except ApiError as error:
        return str(error) if error.temporary else ""
    except KubeError as error:
        return str(error)
    return ""
