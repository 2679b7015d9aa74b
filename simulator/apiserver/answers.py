"""Refusals, as the API server words them: a Status object with code, reason and message."""

from collections.abc import Sequence
from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """Ends a request with a Status."""

    def __init__(self, code: int, message: str, reason: str = "", cause: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS.get(code, "Unknown")
        self.cause = cause

    def status(self) -> dict[str, Any]:
        causes = [{"reason": self.cause[0], "message": self.cause[1]}] if self.cause else []
        return {
            **({"details": {"causes": causes}} if causes else {}),
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def not_found(plural: str, name: str) -> Refused:
    return Refused(404, f'{plural} "{name}" not found')


def already_exists(plural: str, name: str) -> Refused:
    return Refused(409, f'{plural} "{name}" already exists', "AlreadyExists")


def conflict(plural: str, name: str, why: str) -> Refused:
    return Refused(409, f'Operation cannot be fulfilled on {plural} "{name}": {why}')


def stale(plural: str, name: str) -> Refused:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(plural, name, why)


def invalid(kind: str, name: str, errors: Sequence[str]) -> Refused:
    text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    return Refused(422, f'{kind} "{name}" is invalid: {text}')


def expired(what: str) -> Refused:
    return Refused(410, what)
