"""From an HTTP request to an answer: verbs, parameters, bodies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import yaml

from tessera.simulator.apiserver import patching, pods
from tessera.simulator.apiserver.admission import Admission, Request
from tessera.simulator.apiserver.answers import SUCCESS, Refused, not_found
from tessera.simulator.apiserver.budgets import BUDGET_SAYS_NO, spend_budget
from tessera.simulator.apiserver.reviews import Reviews
from tessera.simulator.apiserver.selectors import Predicate, selecting
from tessera.simulator.apiserver.store import Store
from tessera.simulator.apiserver.targets import Target
from tessera.simulator.apiserver.watching import Snapshots, Watch
from tessera.simulator.apiserver.writes import Caller, Writes

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read."""

    method: str
    target: Target
    params: Mapping[str, str]
    body: bytes
    content_type: str
    user: str

    @property
    def verb(self) -> str:
        if self.target.subresource == "binding":
            return "bind"
        if self.target.subresource == "eviction":
            return "evict"
        if self.method == "GET":
            if self.params.get("watch") in ("true", "1"):
                return "watch"
            return "get" if self.target.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(self.method, "")

    @property
    def caller(self) -> Caller:
        return Caller(self.user, self.params.get("dryRun") == "All")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    warnings: list[str] = field(default_factory=list)


class Handlers:
    """Answers every verb but watch, for which it only makes the ``Watch``."""

    def __init__(self, store: Store, admission: Admission, now: Callable[[], datetime]) -> None:
        self._store = store
        self._admission = admission
        self._now = now
        self._writes = Writes(store, admission, now)
        self.reviews = Reviews(store)
        self._snapshots = Snapshots()
        self._applied: dict[tuple[str, ...], Plain] = {}
        self.refuse_eviction: Callable[[Plain], str | None] = lambda _pod: None

    async def answer(self, call: Call) -> Answer:
        match call.verb:
            case "get":
                return self._get(call)
            case "list":
                return self._list(call)
            case "create":
                return await self._create(call)
            case "update":
                return await self._update(call)
            case "patch":
                return await self._patch(call)
            case "delete":
                return self._delete(call)
            case "bind":
                return self._bind(call)
            case "evict":
                return self._evict(call)
        raise Refused(405, "the server does not allow this method on the requested resource")

    def watch(self, call: Call) -> Watch:
        return Watch(self._store, call.target, _selected(call), call.params.get("resourceVersion", ""))

    def _get(self, call: Call) -> Answer:
        target = call.target
        entry = self._store.entry(target.plural, target.namespace, target.name)
        if entry is None:
            raise not_found(target.plural, target.name)
        return Answer(200, entry.encoded)

    def _list(self, call: Call) -> Answer:
        target, token = call.target, call.params.get("continue", "")
        if token:
            version, rest = self._snapshots.take(token, self._store.compacted)
        else:
            selected, version = _selected(call), self._store.version
            entries = self._store.entries(target.plural, target.namespace)
            rest = tuple(entry for entry in entries if selected(entry.object))
        limit = int(call.params.get("limit") or 0) or len(rest)
        page, rest = rest[:limit], rest[limit:]
        meta: Plain = {"resourceVersion": str(version)}
        if rest:
            meta |= {"continue": self._snapshots.keep(version, rest), "remainingItemCount": len(rest)}
        head = {"kind": f"{target.resource.kind}List", "apiVersion": target.resource.api_version, "metadata": meta}
        items = b",".join(entry.encoded for entry in page)
        return Answer(200, msgspec.json.encode(head)[:-1] + b',"items":[' + items + b"]}")

    async def _create(self, call: Call) -> Answer:
        if call.target.name:
            raise Refused(405, "the server does not allow this method on the requested resource")
        if call.target.plural == "tokenreviews":
            return Answer(201, msgspec.json.encode(self.reviews.answer(_object(call))))
        obj, warnings = await self._writes.create(call.target, _object(call), call.caller)
        return Answer(201, msgspec.json.encode(obj), warnings)

    async def _update(self, call: Call) -> Answer:
        body = _object(call)
        named = (body.get("metadata") or {}).get("name")
        if named != call.target.name:
            raise Refused(400, f"the name of the object ({named}) does not match the name on the URL")
        obj, warnings = await self._writes.update(call.target, lambda _old: body, call.caller)
        return Answer(200, msgspec.json.encode(obj), warnings)

    async def _patch(self, call: Call) -> Answer:
        kind = call.content_type.split(";")[0].strip()
        if kind in ("application/apply-patch+yaml", "application/apply-patch+cbor"):
            return await self._apply(call)
        patch = _decoded(call)
        makers: dict[str, Callable[[Plain], Plain]] = {
            "application/merge-patch+json": lambda old: patching.merge(old, patch),
            "application/strategic-merge-patch+json": lambda old: patching.strategic(old, patch),
            "application/json-patch+json": lambda old: patching.json_patch(old, patch),
        }
        if kind not in makers:
            raise Refused(415, f"the body of the request was in an unknown format - accepted media types: {[*makers]}")
        explicit = isinstance(patch, dict) and (patch.get("metadata") or {}).get("resourceVersion")

        def make(old: Plain) -> Plain:
            return _unversioned(makers[kind](old), keep=bool(explicit))

        obj, warnings = await self._writes.update(call.target, make, call.caller)
        return Answer(200, msgspec.json.encode(obj), warnings)

    async def _apply(self, call: Call) -> Answer:
        manager = call.params.get("fieldManager")
        if not manager:
            raise Refused(
                400, "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        applied, target = _object(call), call.target
        key = (target.plural, target.namespace, target.name, target.subresource, manager)
        exists = self._store.entry(target.plural, target.namespace, target.name) is not None
        if not exists and not target.subresource:
            self._applied.pop(key, None)
            new = {**applied, "metadata": {**(applied.get("metadata") or {}), "name": target.name}}
            obj, warnings = await self._writes.create(target, new, call.caller)
        else:
            before = self._applied.get(key)

            def make(old: Plain) -> Plain:
                keep = bool((applied.get("metadata") or {}).get("resourceVersion"))
                return _unversioned(patching.apply(old, applied, before), keep=keep)

            obj, warnings = await self._writes.update(target, make, call.caller)
        if not call.caller.dry_run:
            self._applied[key] = applied
        return Answer(200 if exists else 201, msgspec.json.encode(obj), warnings)

    def _delete(self, call: Call) -> Answer:
        target = call.target
        if not target.name:
            raise Refused(405, "the server does not allow this method on the requested resource")
        entry = self._store.entry(target.plural, target.namespace, target.name)
        if entry is None:
            raise not_found(target.plural, target.name)
        self._admit(call, None, entry.object, "DELETE")
        options = _decoded(call) if call.body else {}
        if "gracePeriodSeconds" in call.params:
            options = {**options, "gracePeriodSeconds": int(call.params["gracePeriodSeconds"])}
        if call.caller.dry_run:
            return Answer(200, entry.encoded)
        last = pods.delete(self._store, target.plural, entry.object, options, self._now())
        return Answer(200, msgspec.json.encode(last))

    def _bind(self, call: Call) -> Answer:
        binding = _object(call)
        name = call.target.name or (binding.get("metadata") or {}).get("name") or ""
        self._admit(call, binding, None, "CREATE")
        pods.bind(self._store, call.target.namespace, name, binding, self._now())
        return Answer(201, msgspec.json.encode(SUCCESS))

    def _evict(self, call: Call) -> Answer:
        eviction, target = _object(call), call.target
        entry = self._store.entry("pods", target.namespace, target.name)
        if entry is None:
            raise not_found("pods", target.name)
        if why := self.refuse_eviction(entry.object):
            raise Refused(429, BUDGET_SAYS_NO, cause=("DisruptionBudget", why))
        self._admit(call, eviction, None, "CREATE")
        pods.check_preconditions("pods", entry.object, (eviction.get("deleteOptions") or {}).get("preconditions") or {})
        spend_budget(self._store, entry.object)
        pods.delete(self._store, "pods", entry.object, eviction.get("deleteOptions") or {}, self._now())
        return Answer(201, msgspec.json.encode(SUCCESS))

    def _admit(self, call: Call, obj: Plain | None, old: Plain | None, operation: str) -> None:
        target = call.target
        name = target.name or ((obj or {}).get("metadata") or {}).get("name") or ""
        self._admission.validate(
            Request(obj, old, operation, call.user, target.resource, target.subresource, target.namespace, name)
        )


def _selected(call: Call) -> Predicate:
    return selecting(call.params.get("labelSelector", ""), call.params.get("fieldSelector", ""))


def _unversioned(obj: Plain, *, keep: bool) -> Plain:
    """A patch is made on whatever is stored: only a version that the client named is a condition."""
    if keep:
        return obj
    return {**obj, "metadata": {k: v for k, v in (obj.get("metadata") or {}).items() if k != "resourceVersion"}}


def _decoded(call: Call) -> Any:
    try:
        if "yaml" in call.content_type:
            return yaml.safe_load(call.body)
        return msgspec.json.decode(call.body)
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise Refused(400, f"the object provided is unrecognized: {error}") from error


def _object(call: Call) -> Plain:
    body = _decoded(call)
    if not isinstance(body, dict):
        raise Refused(400, "the object provided is unrecognized: not an object")
    kind = body.get("kind")
    if kind and not call.target.subresource and kind != call.target.resource.kind:
        raise Refused(400, f"{call.target.resource.kind} in the URL does not match the kind of the object: {kind}")
    return body
