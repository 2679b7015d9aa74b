"""What a controller may do, as values, and how it makes a pod from a template."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tessera.kube.resources import PODS, Resource, untyped

Plain = dict[str, Any]
POD = untyped(PODS)


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object."""

    resource: Resource[Plain]
    object: Plain


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete this very object."""

    resource: Resource[Plain]
    object: Plain


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge into an object, or into its status."""

    resource: Resource[Plain]
    object: Plain
    patch: Mapping[str, Any]
    subresource: str = "status"


Action = Create | Delete | Patch


def owner_of(obj: Plain) -> tuple[str, str, str] | None:
    """Kind, name and UID of the controller of an object."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference["kind"], reference["name"], reference["uid"]
    return None


def owned(resource: Resource[Plain], owner: Plain) -> list[Plain]:
    """The owner references of something that ``owner`` makes."""
    meta = owner["metadata"]
    return [
        {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def pod_from(resource: Resource[Plain], owner: Plain, name: str = "") -> Plain:
    """A pod of the owner's template; without ``name`` the API server completes ``<owner>-``."""
    template = copy.deepcopy(owner["spec"]["template"])
    meta = template.get("metadata") or {}
    named = {"name": name} if name else {"generateName": f"{owner['metadata']['name']}-"}
    kept = {key: meta[key] for key in ("labels", "annotations") if meta.get(key)}
    made = {**named, "namespace": owner["metadata"]["namespace"], **kept, "ownerReferences": owned(resource, owner)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": template["spec"]}


def digest(template: Plain) -> str:
    """A short name for a template, the same for equal ones."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def phase_of(pod: Plain) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def ended(pod: Plain) -> bool:
    return phase_of(pod) in ("Succeeded", "Failed")


def deleting(obj: Plain) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def ready(pod: Plain) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def with_status(resource: Resource[Plain], obj: Plain, status: Plain) -> list[Action]:
    """A patch of the status, if it says something new."""
    known = obj.get("status") or {}
    news = {key: value for key, value in status.items() if known.get(key) != value}
    return [Patch(resource, obj, {"status": news})] if news else []
