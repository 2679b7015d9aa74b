"""What is sent to the routes of ``verbs``: read by the rules of the command line, each mistake one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import HTTPException, Request

from tessera.model import names
from tessera.model.demands import MEM_ALLOWED
from tessera.model.new_leases import ANNOTATIONS, NewLease, new_lease_of
from tessera.model.resizes import CORE_ALLOWED, Resize, resize_of
from tessera.reasons import Reason, invalid

T = TypeVar("T")
MAX_BODY = 4096
_NAME_ALLOWED = "a name of small letters, digits, - and ."
_AMOUNT = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
_NAME = {"type": "string", "description": _NAME_ALLOWED}


@dataclass(frozen=True, slots=True)
class Form:
    """A JSON object of at most ``MAX_BODY`` bytes: an ``example``, and the schema of each key. ``optional``: nothing
    will do as well."""

    example: str
    properties: Mapping[str, Any]
    required: Sequence[str] = ()
    optional: bool = False

    @property
    def allowed(self) -> str:
        return f"a JSON object such as {self.example}"

    @property
    def keys(self) -> str:
        """Its keys in words."""
        *some, last = self.properties
        return f"{', '.join(some)} and {last} only" if some else f"{last} only"

    @property
    def openapi(self) -> dict[str, Any]:
        """What the API's schema says of it."""
        schema = {
            "type": "object", "required": list(self.required), "additionalProperties": False,
            "properties": dict(self.properties),
        }  # fmt: skip
        return {"requestBody": {"required": not self.optional, "content": {"application/json": {"schema": schema}}}}


RESIZE = Form(
    '{"gpu-mem": "16Gi", "gpu-core": 40}',
    {
        "gpu-mem": {**_AMOUNT, "description": MEM_ALLOWED},
        "gpu-core": {**_AMOUNT, "description": f"{CORE_ALLOWED}; left out: as it is"},
    },
    ("gpu-mem",),
)
NEW = Form(
    '{"name": "mine", "gpu-mem": "16Gi", "gpu-core": 40, "annotations": {"tessera.io/gpu-model": "A100"}}',
    {
        "name": _NAME,
        "gpu-mem": {**_AMOUNT, "description": MEM_ALLOWED},
        "gpu-core": {**_AMOUNT, "description": f"{CORE_ALLOWED}; left out: no cap"},
        "annotations": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": f"of {', '.join(ANNOTATIONS)}",
        },
    },
    ("name", "gpu-mem"),
)
POD = Form('{"pod": "train"}', {"pod": _NAME}, ("pod",))
NOTHING = Form("{}", {}, optional=True)


async def sent(request: Request, form: Form) -> dict[str, Any]:
    """The object that a request carries. Raises ``HTTPException``."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, f"content-type: found {kind!r}; allowed: application/json")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HTTPException(400, f"body: found more than {MAX_BODY} bytes; allowed: {form.allowed}")
    return good(read(body, form))


def good(found: T | Reason) -> T:
    """What was read. Raises ``HTTPException``."""
    if isinstance(found, Reason):
        raise HTTPException(400, found.text)
    return found


def read(body: bytes, form: Form) -> dict[str, Any] | Reason:
    """The object of ``body``, with no other keys than those of ``form``."""
    if form.optional and not body.strip():
        return {}
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return invalid("body", body.decode(errors="replace"), form.allowed)
    if not isinstance(found, dict) or (found and not form.properties):
        return invalid("body", found, form.allowed)
    for key in found.keys() - form.properties.keys():
        return invalid(key, found[key], form.keys)
    return found


def size_of(found: Mapping[str, Any]) -> Resize | Reason:
    """The size that is asked for."""
    amounts = _amounts(found)
    return amounts if isinstance(amounts, Reason) else resize_of(*amounts)


def new_of(found: Mapping[str, Any]) -> tuple[str, NewLease] | Reason:
    """The name and the rest of a lease that is to be made."""
    name, amounts, notes = name_of(found, "name"), _amounts(found), found.get("annotations", {})
    if isinstance(name, Reason):
        return name
    if isinstance(amounts, Reason):
        return amounts
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        return invalid("annotations", notes, "an object of texts")
    read = new_lease_of(*amounts, notes)
    return read if isinstance(read, Reason) else (name, read)


def name_of(found: Mapping[str, Any], key: str) -> str | Reason:
    """The name of an object under ``key``."""
    name = found.get(key)
    if not isinstance(name, str) or not names.OBJECT_NAME.fullmatch(name):
        return invalid(key, name, _NAME_ALLOWED)
    return name


def _amounts(found: Mapping[str, Any]) -> tuple[str, str | None] | Reason:
    mem, core = found.get("gpu-mem"), found.get("gpu-core")
    if not _amount(mem):
        return invalid("gpu-mem", mem, MEM_ALLOWED)
    if "gpu-core" in found and not _amount(core):
        return invalid("gpu-core", core, CORE_ALLOWED)
    return str(mem), None if core is None else str(core)


def _amount(found: object) -> bool:
    return isinstance(found, str | int) and not isinstance(found, bool)
