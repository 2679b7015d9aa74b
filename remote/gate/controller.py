"""The pool's controller as its gates see it: calls over TLS, with this pod's token."""

from collections.abc import Iterator
from pathlib import Path

import grpc

from tessera.pb.remote.v1 import remote_pb2, remote_pb2_grpc
from tessera.remote.controller.authority import CONTROLLER_NAME
from tessera.remote.executor.refusals import Refusal

CALL_S = 4.0
SIGN_S = 15.0
_OPTIONS = [
    ("grpc.ssl_target_name_override", CONTROLLER_NAME),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
]


class Controller:
    """Methods raise ``grpc.RpcError`` but where they say otherwise, and ``OSError`` if there is no token."""

    def __init__(self, address: str, authority: bytes, token_file: Path) -> None:
        credentials = grpc.ssl_channel_credentials(authority)
        self._channel = grpc.secure_channel(address, credentials, _OPTIONS)
        self._stub = remote_pb2_grpc.PoolStub(self._channel)  # type: ignore[no-untyped-call]
        self._token_file = token_file

    def sign(self, request: bytes) -> bytes:
        """A certificate, PEM, for the key of a request (PKCS #10, DER)."""
        asked = remote_pb2.SignRequest(certificate_request=request)
        return bytes(self._stub.Sign(asked, metadata=self._metadata(), timeout=SIGN_S).certificate)

    def admit(self, token: str, container: str, epoch: int) -> remote_pb2.AdmitReply:
        """What a client may have. Raises ``Refusal``."""
        asked = remote_pb2.AdmitRequest(token=token, container=container, epoch=epoch)
        try:
            reply: remote_pb2.AdmitReply = self._stub.Admit(asked, metadata=self._metadata(), timeout=CALL_S)
        except grpc.RpcError as error:
            raise _refusal(error) from None
        except OSError as error:
            raise Refusal("Unavailable", f"pool: the gate has no token ({error.strerror})") from None
        return reply

    def follow(self, served: Iterator[remote_pb2.FollowRequest]) -> Iterator[remote_pb2.LeaseState]:
        """The lease, and what it becomes; ``served`` tells of epochs that the executor serves."""
        states: Iterator[remote_pb2.LeaseState] = self._stub.Follow(served, metadata=self._metadata())
        return states

    def close(self) -> None:
        """Ends the calls that are under way."""
        self._channel.close()

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token_file.read_text().strip()}")]


def said(error: Exception) -> str:
    """What is written of a call that failed."""
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else str(error)


def _refusal(error: grpc.RpcError) -> Refusal:
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return Refusal("Denied", str(error.details()))
    if error.code() is grpc.StatusCode.ABORTED:
        return Refusal("Epoch", str(error.details()))
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refusal("Busy", str(error.details()))
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return Refusal("Unavailable", "pool: this executor does not serve the lease any more; allowed: to come again")
    return Refusal("Unavailable", f"pool: the controller was not heard ({error.code().name}); allowed: to come again")
