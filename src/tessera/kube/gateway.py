"""Typed requests to the API server: read, write, bind, evict, watch.

Every method raises ``ApiError`` (the server refused), ``Unreachable`` (nothing happened) or, if it writes,
``UnknownOutcome`` (it may have happened; a GET decides). Nothing is retried here but a 401 with newer credentials.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from tessera.kube.errors import ApiError
from tessera.kube.lines import LineBuffer
from tessera.kube.resources import PODS, Plain, Resource
from tessera.kube.transport import JSON, Transport

T = TypeVar("T")
PAGE = 500
BIND_TIMEOUT_S = 4.0
"""Below kube-scheduler's default HTTP timeout for extenders, 5 s, so that our answer is the one it hears."""
EVICT_TIMEOUT_S = 20.0
"""kube-apiserver itself retries an eviction that conflicts, such as one for another uid, for about 10 s."""

_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a collection; ``continue_token`` is empty on the last page."""

    items: tuple[T, ...]
    resource_version: str
    continue_token: str


def encode(resource: Resource[Any], obj: Any) -> bytes:
    """An object's JSON, with ``apiVersion`` and ``kind`` filled in."""
    fields = obj if isinstance(obj, dict) else msgspec.to_builtins(obj)
    return msgspec.json.encode({"apiVersion": resource.api_version, "kind": resource.kind, **fields})


def meta_of(obj: Any) -> tuple[str, str]:
    """Namespace and name of a Struct or dictionary."""
    if isinstance(obj, dict):
        found = obj.get("metadata") or {}
        return found.get("namespace") or "", found.get("name") or ""
    return obj.metadata.namespace, obj.metadata.name


class Gateway(Transport):
    """The API server, as methods. ``async with Gateway(connection) as gateway``."""

    async def get(self, resource: Resource[T], name: str, *, namespace: str = "") -> T:
        """One object as it stands in storage now (not from a cache)."""
        return resource.decoder.decode(await self.send("GET", resource.path(namespace, name)))

    async def find(self, resource: Resource[T], name: str, *, namespace: str = "") -> T | None:
        """As ``get``; ``None`` where there is no object of that name."""
        try:
            return await self.get(resource, name, namespace=namespace)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list_page(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
        continue_token: str = "",
    ) -> Page[T]:
        """One page; ``limit`` 0 asks for all at once."""
        params = _selectors(label_selector, field_selector)
        if limit:
            params["limit"] = str(limit)
        if continue_token:
            params["continue"] = continue_token
        body = await self.send("GET", resource.path(namespace), params=params, timeout_s=60.0)
        found = resource.list_decoder.decode(body)
        return Page(tuple(found.items or ()), found.metadata.resource_version, found.metadata.continue_)

    async def list_pages(
        self,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
    ) -> AsyncIterator[Page[T]]:
        """All pages; raises ``ApiError`` with ``gone`` when the continue token expires on the way."""
        token = ""
        while True:
            page = await self.list_page(
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=token,
            )
            yield page
            token = page.continue_token
            if not token:
                return

    async def list(
        self, resource: Resource[T], *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> list[T]:
        """The whole collection."""
        pages = self.list_pages(
            resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        return [item async for page in pages for item in page.items]

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource[Any],
        resource_version: str,
        *,
        timeout_s: int = 300,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Watch events after ``resource_version`` as raw lines, until the server closes."""
        params = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        async with self.stream(resource.path(namespace), params) as pieces:
            yield _lines(pieces)

    async def create(self, resource: Resource[T], obj: Any, *, namespace: str = "", dry_run: bool = False) -> T:
        path = resource.path(namespace or meta_of(obj)[0])
        params = {"dryRun": "All"} if dry_run else None
        return resource.decoder.decode(await self.send("POST", path, params=params, body=encode(resource, obj)))

    async def replace(self, resource: Resource[T], obj: Any, *, namespace: str = "", subresource: str = "") -> T:
        """Writes the whole object; with a ``resourceVersion`` only if nobody changed it since."""
        found, name = meta_of(obj)
        path = resource.path(namespace or found, name, subresource)
        return resource.decoder.decode(await self.send("PUT", path, body=encode(resource, obj)))

    async def merge_patch(
        self, resource: Resource[T], name: str, patch: Mapping[str, Any], *, namespace: str = "", subresource: str = ""
    ) -> T:
        """RFC 7386: maps merge, ``None`` removes, lists are replaced."""
        return await self._patch(resource, name, _MERGE, patch, namespace, subresource)

    async def strategic_patch(
        self, resource: Resource[T], name: str, patch: Mapping[str, Any], *, namespace: str = "", subresource: str = ""
    ) -> T:
        """As ``merge_patch``, with lists such as a pod's conditions merged by their key. Built-in kinds only."""
        return await self._patch(resource, name, _STRATEGIC, patch, namespace, subresource)

    async def json_patch(
        self,
        resource: Resource[T],
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        namespace: str = "",
        subresource: str = "",
    ) -> T:
        """RFC 6902; a ``test`` operation that fails answers 422."""
        return await self._patch(resource, name, _JSON_PATCH, operations, namespace, subresource)

    async def apply(
        self,
        resource: Resource[T],
        obj: Any,
        *,
        field_manager: str,
        force: bool = True,
        namespace: str = "",
        subresource: str = "",
    ) -> T:
        """Server-side apply: creates or changes the fields in ``obj``, and owns them."""
        found, name = meta_of(obj)
        params = {"fieldManager": field_manager, "force": str(force).lower()}
        path = resource.path(namespace or found, name, subresource)
        body = encode(resource, obj)
        return resource.decoder.decode(await self.send("PATCH", path, params=params, body=body, content_type=_APPLY))

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        grace_period_s: int | None = None,
        propagation: str = "",
    ) -> None:
        """Asks for deletion; with ``uid`` only of that very object, else ``ApiError`` with ``conflict``."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **_delete_options(uid, grace_period_s)}
        if propagation:
            options["propagationPolicy"] = propagation
        await self.send("DELETE", resource.path(namespace, name), body=msgspec.json.encode(options))

    async def remove(self, resource: Resource[Any], name: str, *, namespace: str = "", uid: str) -> bool:
        """As ``delete``, of that very object; whether it was asked for. One that is gone, by whomever, is no error."""
        try:
            await self.delete(resource, name, namespace=namespace, uid=uid)
        except ApiError as error:
            if error.not_found or error.conflict:
                return False
            raise
        return True

    async def bind(
        self,
        namespace: str,
        name: str,
        uid: str,
        node: str,
        annotations: Mapping[str, str],
        *,
        timeout_s: float = BIND_TIMEOUT_S,
    ) -> None:
        """Places a pod and writes ``annotations`` on it in one write, only if it is still the pod of that uid."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": dict(annotations)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = PODS.path(namespace, name, "binding")
        await self.send("POST", path, body=msgspec.json.encode(binding), timeout_s=timeout_s)

    async def evict(self, namespace: str, name: str, *, uid: str = "", grace_period_s: int | None = None) -> None:
        """Deletes a pod as its disruption budgets allow; ``ApiError`` with ``too_many_requests`` if they do not.

        Takes up to ``EVICT_TIMEOUT_S`` where the pod is not of that uid any more.
        """
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options(uid, grace_period_s),
        }
        path = PODS.path(namespace, name, "eviction")
        await self.send("POST", path, body=msgspec.json.encode(eviction), timeout_s=EVICT_TIMEOUT_S)

    async def _patch(
        self, resource: Resource[T], name: str, content_type: str, patch: Any, namespace: str, subresource: str
    ) -> T:
        path = resource.path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        return resource.decoder.decode(await self.send("PATCH", path, body=body, content_type=content_type))


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    found = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in found.items() if value}


def _delete_options(uid: str, grace_period_s: int | None) -> Plain:
    options: Plain = {}
    if uid:
        options["preconditions"] = {"uid": uid}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    return options


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    buffer = LineBuffer()
    async for piece in pieces:
        for line in buffer.feed(piece):
            yield line


__all__ = ["BIND_TIMEOUT_S", "JSON", "PAGE", "Gateway", "Page", "encode", "meta_of"]
