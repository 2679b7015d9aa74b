"""Create, update and patch: defaults, webhooks, strategy, validation, validators, and then one write.

An object that changes while a webhook thinks is not overwritten: the write starts over from the newer one, or
answers 409 if the client named a resource version.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tessera.simulator.apiserver import pods
from tessera.simulator.apiserver.admission import Admission, Request
from tessera.simulator.apiserver.answers import Refused, already_exists, not_found, stale
from tessera.simulator.apiserver.defaults import defaulted, with_priority
from tessera.simulator.apiserver.store import Store
from tessera.simulator.apiserver.targets import Target
from tessera.simulator.apiserver.validation import check_shape, validate

Plain = dict[str, Any]
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace")
TRIES = 20


@dataclass(frozen=True, slots=True)
class Caller:
    user: str
    dry_run: bool = False


class Writes:
    """Carries out writes on ``store``; answers the object as stored and the webhooks' warnings."""

    def __init__(self, store: Store, admission: Admission, now: Callable[[], datetime]) -> None:
        self._store = store
        self._admission = admission
        self._now = now
        self._rng = random.Random()

    async def create(self, target: Target, body: Plain, caller: Caller) -> tuple[Plain, list[str]]:
        obj = self._born(target, body)
        name = obj["metadata"]["name"]
        self._check_namespace(target)
        if self._store.entry(target.plural, target.namespace, name):
            raise already_exists(target.plural, name)
        obj = self._filled(target, obj)
        request = self._request(target, name, obj, None, "CREATE", caller)
        obj, warnings = await self._admission.mutate(request)
        obj = self._filled(target, obj)
        validate(target.plural, target.resource.kind, obj, None)
        self._admission.validate(self._request(target, name, obj, None, "CREATE", caller))
        if self._store.entry(target.plural, target.namespace, name):
            raise already_exists(target.plural, name)
        return (obj if caller.dry_run else self._store.put(target.plural, obj)), warnings

    async def update(self, target: Target, make: Callable[[Plain], Plain], caller: Caller) -> tuple[Plain, list[str]]:
        """``make`` gets the stored object and answers the wished one."""
        for _ in range(TRIES):
            entry = self._store.entry(target.plural, target.namespace, target.name)
            if entry is None:
                raise not_found(target.plural, target.name)
            old = entry.object
            obj, warnings = await self._prepared(target, make(old), old, caller)
            if self._store.entry(target.plural, target.namespace, target.name) is entry:
                return self._commit(target, obj, old, caller), warnings
        raise stale(target.plural, target.name)

    async def _prepared(self, target: Target, wished: Plain, old: Plain, caller: Caller) -> tuple[Plain, list[str]]:
        if not isinstance(wished.get("metadata"), dict):
            raise Refused(400, "metadata: Required value")
        pods.check_preconditions(target.plural, old, wished["metadata"])
        obj = _evolved(target, wished, old)
        warnings: list[str] = []
        if not target.subresource:
            obj = self._filled(target, obj)
            request = self._request(target, target.name, obj, old, "UPDATE", caller)
            obj, warnings = await self._admission.mutate(request)
            obj = self._filled(target, obj)
            validate(target.plural, target.resource.kind, obj, old)
        self._admission.validate(self._request(target, target.name, obj, old, "UPDATE", caller))
        return obj, warnings

    def _commit(self, target: Target, obj: Plain, old: Plain, caller: Caller) -> Plain:
        """A write that changes nothing makes no new version."""
        if obj == old or caller.dry_run:
            return obj
        if pods.released(obj):
            return self._store.remove(target.plural, target.namespace, target.name) or obj
        return self._store.put(target.plural, obj)

    def _born(self, target: Target, body: Plain) -> Plain:
        meta = dict(body.get("metadata") or {})
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + "".join(self._rng.choices(_SUFFIX, k=5))
        namespace = meta.get("namespace") or target.namespace
        if target.resource.namespaced and namespace != target.namespace:
            raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        if target.resource.namespaced:
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)
        for field in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"):
            meta.pop(field, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": pods.timestamp(self._now()), "generation": 1}
        meta.setdefault("name", "")
        born = {
            "apiVersion": target.resource.api_version,
            "kind": target.resource.kind,
            **{key: value for key, value in body.items() if key not in ("apiVersion", "kind")},
            "metadata": meta,
        }
        return _fresh_status(target, born)

    def _filled(self, target: Target, obj: Plain) -> Plain:
        check_shape(target.plural, target.resource.kind, obj)
        obj = defaulted(target.plural, obj)
        if target.plural == "pods":
            obj = with_priority(obj, [entry.object for entry in self._store.entries("priorityclasses")])
        return obj

    def _check_namespace(self, target: Target) -> None:
        if not target.resource.namespaced:
            return
        namespace = self._store.entry("namespaces", "", target.namespace)
        if namespace is None:
            raise not_found("namespaces", target.namespace)
        if namespace.object["metadata"].get("deletionTimestamp"):
            raise Refused(403, f"unable to create new content in namespace {target.namespace}: it is being terminated")

    def _request(
        self, target: Target, name: str, obj: Plain, old: Plain | None, operation: str, caller: Caller
    ) -> Request:
        return Request(
            obj,
            old,
            operation,
            caller.user,
            target.resource,
            target.subresource,
            target.namespace,
            name,
            caller.dry_run,
        )


def _fresh_status(target: Target, obj: Plain) -> Plain:
    """Clients do not create status; nodes may (the kubelet does), pods begin as Pending."""
    if target.plural == "pods":
        return {**obj, "status": {"phase": "Pending", "qosClass": "BestEffort"}}
    if target.plural == "namespaces":
        return {**obj, "status": {"phase": "Active"}}
    if target.has_status and target.plural != "nodes":
        return {key: value for key, value in obj.items() if key != "status"}
    return obj


def _evolved(target: Target, wished: Plain, old: Plain) -> Plain:
    """``wished`` with what this request may not change taken from ``old``."""
    meta = {
        **(wished.get("metadata") or {}),
        "name": target.name,
        "resourceVersion": old["metadata"]["resourceVersion"],
    }
    meta.pop("managedFields", None)
    for field in _KEPT:
        meta.pop(field, None)
        if field in old["metadata"]:
            meta[field] = old["metadata"][field]
    base = {**wished, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": meta}
    if target.subresource == "status":
        if target.plural in ("gpunodes", "gpuleases"):
            base["metadata"] = old["metadata"]
        return {**old, "metadata": base["metadata"], "status": wished.get("status") or {}}
    if target.subresource == "ephemeralcontainers" and target.plural == "pods":
        added = (wished.get("spec") or {}).get("ephemeralContainers") or []
        return {**old, "metadata": base["metadata"], "spec": {**old["spec"], "ephemeralContainers": added}}
    if target.subresource:
        raise Refused(404, "the server could not find the requested resource")
    return _main(target, base, old)


def _main(target: Target, base: Plain, old: Plain) -> Plain:
    if target.has_status:
        base.pop("status", None)
        if "status" in old:
            base["status"] = old["status"]
    if base.get("spec") != old.get("spec"):
        base["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return base
