"""The gRPC service Pool, over TLS: answers the gates of executors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, NoReturn

import grpc
import structlog

from tessera.kube.errors import KubeError
from tessera.pb.remote.v1 import remote_pb2, remote_pb2_grpc
from tessera.remote.controller.authority import CONTROLLER_NAME, Authority, Pair, RequestError, half_time
from tessera.remote.controller.book import Book
from tessera.remote.controller.callers import Callers, Gate, NotYet, not_its_lease, serves
from tessera.remote.controller.handovers import state_of
from tessera.remote.controller.metrics import Metrics
from tessera.remote.controller.reading import MESSAGE
from tessera.remote.controller.records import Heard
from tessera.remote.controller.reviews import Refused

log = structlog.get_logger()
Context = grpc.aio.ServicerContext[Any, Any]

LOOK_S = 5.0
"""A gate is told within this that its controller does not lead any more."""
CALLS = 16_384
"""Answered at once, each of some KiB. An executor holds one stream as long as it lives, so this is for more of them
than a pool has; one that was taken over and calls without end has calls refused, and does not fill the memory."""
_OPTIONS = [
    # A gate has its stream, a request for a certificate, and an Admit for each connection whose first frame is read.
    ("grpc.max_concurrent_streams", 128),
    # A token of a pod has 1 to 2 KiB.
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 64 << 10),
]
_CODES = {"epoch": grpc.StatusCode.ABORTED, "rate": grpc.StatusCode.RESOURCE_EXHAUSTED}
"""Of what time may mend; whoever is refused otherwise is denied."""


class PoolService(remote_pb2_grpc.PoolServicer):
    """``leads``: whether this controller's answers count. ``sessions``: how many a lease may have at once."""

    def __init__(
        self,
        callers: Callers,
        book: Book,
        authority: Authority,
        metrics: Metrics,
        leads: Callable[[], bool],
        now: Callable[[], datetime],
        sessions: int,
    ) -> None:
        self._callers, self._book, self._authority, self._metrics = callers, book, authority, metrics
        self._leads, self._now, self._sessions = leads, now, sessions

    async def Sign(self, request: remote_pb2.SignRequest, context: Context) -> remote_pb2.SignReply:
        gate = await self._gate("Sign", context)
        lease = gate.record.known
        try:
            cert = self._authority.sign(request.certificate_request, lease.server_name, self._now())
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._metrics.signed.inc()
        log.info("certificate signed", lease=lease.key, executor=gate.executor.name)
        return remote_pb2.SignReply(certificate=cert)

    async def Admit(self, request: remote_pb2.AdmitRequest, context: Context) -> remote_pb2.AdmitReply:
        gate = await self._gate("Admit", context)
        if not serves(gate.executor, gate.record):
            await self._refuse(
                "Admit", context, grpc.StatusCode.FAILED_PRECONDITION, not_its_lease(gate.executor), gate
            )
        try:
            refused = await self._callers.client(gate.record, request.token, request.container, request.epoch)
        except KubeError as error:
            await self._unavailable(context, str(error))
        if refused is not None:
            code = _CODES.get(refused.reason, grpc.StatusCode.PERMISSION_DENIED)
            await self._refuse("Admit", context, code, refused, gate)
        limit_bytes = gate.record.served.share.mem_bytes
        return remote_pb2.AdmitReply(limit_bytes=limit_bytes, sessions=self._sessions)

    async def Follow(
        self, requests: AsyncIterator[remote_pb2.FollowRequest], context: Context
    ) -> AsyncIterator[remote_pb2.LeaseState]:
        gate = await self._gate("Follow", context)
        hearing = asyncio.create_task(self._hear(requests, gate))
        told: remote_pb2.LeaseState | None = None
        try:
            while self._leads():
                changed = asyncio.ensure_future(self._book.news(gate.executor.lease_uid).wait())
                try:
                    state = self._state(gate)
                    if state != told:
                        yield state
                        told = state
                    await asyncio.wait({changed, hearing}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if hearing.done():
                    return
        finally:
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await hearing
        await self._unavailable(context, "this controller does not lead any more")

    async def _hear(self, requests: AsyncIterator[remote_pb2.FollowRequest], gate: Gate) -> None:
        async for request in requests:
            heard = Heard(request.epoch, request.about, request.ticket, request.refused[:MESSAGE], request.left)
            self._book.hear(gate.executor, heard)

    def _state(self, gate: Gate) -> remote_pb2.LeaseState:
        executor = gate.executor
        record = self._book.by_uid(executor.lease_uid)
        if record is None:
            return remote_pb2.LeaseState(epoch=gate.record.status.epoch)
        coming = self._book.executor(record.status.next_uid)
        return state_of(executor, record, coming, self._book.heard(executor.lease_uid), self._sessions)

    async def _gate(self, call: str, context: Context) -> Gate:
        if not self._leads():
            await self._unavailable(context, "this controller does not lead")
        try:
            gate = await self._callers.gate(_token(context))
        except (NotYet, KubeError) as error:
            await self._unavailable(context, str(error))
        if isinstance(gate, Refused):
            lost = gate.reason == "lost"
            code = grpc.StatusCode.FAILED_PRECONDITION if lost else grpc.StatusCode.UNAUTHENTICATED
            await self._refuse(call, context, code, gate)
        assert isinstance(gate, Gate)
        return gate

    async def _refuse(
        self, call: str, context: Context, code: grpc.StatusCode, refused: Refused, gate: Gate | None = None
    ) -> NoReturn:
        self._metrics.refusals.labels(call, refused.reason).inc()
        lease = gate.record.known.key if gate else ""
        # Who comes too often does not fill the log either.
        say = log.debug if refused.reason == "rate" else log.warning
        say("call refused", call=call, lease=lease, reason=refused.reason, text=refused.text)
        await context.abort(code, refused.text)
        raise AssertionError("abort raises")

    async def _unavailable(self, context: Context, text: str) -> NoReturn:
        await context.abort(grpc.StatusCode.UNAVAILABLE, text)
        raise AssertionError("abort raises")


def _token(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ").strip()
    return ""


class PoolServer:
    """Listens on ``host``:``port`` (0: any), with a certificate of the authority that is made anew in time."""

    def __init__(
        self, service: PoolService, authority: Authority, host: str, port: int, now: Callable[[], datetime]
    ) -> None:
        self._service, self._authority, self._now = service, authority, now
        self._address, self.port = f"{f'[{host}]' if ':' in host else host}:{port}", port
        self._pair = authority.pair(CONTROLLER_NAME, now())
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Returns once calls are answered. Raises ``OSError``."""
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=CALLS)
        remote_pb2_grpc.add_PoolServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        credentials = grpc.dynamic_ssl_server_credentials(
            _configuration(self._pair),
            self._renewed,  # type: ignore[arg-type]
        )
        try:
            self.port = server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from None
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends the streams: gates look for who leads next."""
        if self._server is not None:
            await self._server.stop(grace=0.2)
            self._server = None

    def _renewed(self) -> "grpc.ServerCertificateConfiguration | None":
        """Asked at each handshake, on a thread of gRPC's."""
        now = self._now()
        if now < half_time(self._pair.cert):
            return None
        self._pair = self._authority.pair(CONTROLLER_NAME, now)
        return _configuration(self._pair)


def _configuration(pair: Pair) -> "grpc.ServerCertificateConfiguration":
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.cert)])
