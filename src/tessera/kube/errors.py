"""What can go wrong with a request.

``ApiError``: the server answered no. ``Unreachable``: nothing happened. ``UnknownOutcome``: a write may have happened
or not, and only a later GET can tell.
"""

from typing import Any

import msgspec

from tessera.kube import wire

_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid"}


class KubeError(Exception):
    """Any failure of a request."""


class Unreachable(KubeError):
    """The server could not be asked, or a read got no answer. Nothing was changed."""


class UnknownOutcome(KubeError):
    """A write was sent and its answer was lost: it may have happened or not, and may still happen."""


class ApiError(KubeError):
    """The server refused. ``reason`` is the CamelCase word of its Status, ``causes`` the messages of its details."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float = 0.0, causes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.causes = causes

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def already_exists(self) -> bool:
        return self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """Somebody else was first (a stale resourceVersion, another uid, a second Binding)."""
        return self.status == 409 and not self.already_exists

    @property
    def gone(self) -> bool:
        """The resourceVersion or continue token is too old."""
        return self.status == 410 or self.reason in ("Expired", "Gone")

    @property
    def unauthorized(self) -> bool:
        return self.status == 401

    @property
    def forbidden(self) -> bool:
        return self.status == 403

    @property
    def invalid(self) -> bool:
        return self.status == 422

    @property
    def too_many_requests(self) -> bool:
        return self.status == 429

    @property
    def temporary(self) -> bool:
        """The same request may do better later."""
        return self.status == 429 or self.status >= 500


def api_error(status: int, body: bytes, retry_after: str = "") -> ApiError:
    """Reads the Status object of an answer; proxies in between may answer with anything."""
    retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
    try:
        found = msgspec.json.decode(body, type=wire.Status)
    except msgspec.DecodeError:
        found = wire.Status(message=body[:200].decode(errors="replace"))
    reason = found.reason or _REASONS.get(status, "Unknown")
    return ApiError(status, reason, found.message, retry_after_s, _causes(found.details))


def event_error(body: bytes | msgspec.Raw) -> ApiError:
    """The error inside a watch's ERROR event."""
    try:
        found = msgspec.json.decode(body, type=wire.Status)
    except msgspec.DecodeError:
        found = wire.Status(code=500, reason="InternalError", message="an ERROR event that is no Status")
    return ApiError(found.code or 500, found.reason or _REASONS.get(found.code, "Unknown"), found.message)


def _causes(details: dict[str, Any] | None) -> tuple[str, ...]:
    causes = (details or {}).get("causes")
    found = causes if isinstance(causes, list) else []
    return tuple(str(cause["message"]) for cause in found if isinstance(cause, dict) and cause.get("message"))
