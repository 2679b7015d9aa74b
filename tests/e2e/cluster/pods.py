"""Pods for tests: written as short literals, created many at once, and asked what they see from inside."""

from __future__ import annotations

import concurrent.futures
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.cluster.api import Api, Json
from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.processes import wait_until


@dataclass(frozen=True, slots=True)
class Report:
    """What `/bin/report` saw inside the container."""

    env: Mapping[str, str]
    files: Mapping[str, str]


def container(
    name: str = "main", *, limits: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None,
    show: Sequence[str] = ("/run/tessera",), command: Sequence[str] | None = None,
) -> Json:  # fmt: skip
    """A container that reports its environment and the files under `show`, unless `command` says otherwise."""
    body: Json = {"name": name, "image": BUSYBOX, "imagePullPolicy": "Never"}
    body["command"] = list(command) if command else ["/bin/report", *show]
    if limits:
        body["resources"] = {"limits": dict(limits)}
    if env:
        body["env"] = [{"name": key, "value": value} for key, value in env.items()]
    return body


def pod(
    name: str, *containers: Json, namespace: str = "", node: str = "", scheduler: str = "",
    labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None, **spec: Any,
) -> Json:  # fmt: skip
    """A bare pod of these containers (default: one that reports). `node` is chosen by hostname label, not nodeName.

    Without `namespace` it goes where the client that creates it works.
    """
    body: Json = {"terminationGracePeriodSeconds": 1, "containers": list(containers) or [container()], **spec}
    if node:
        body["nodeSelector"] = {**body.get("nodeSelector", {}), "kubernetes.io/hostname": node}
    if scheduler:
        body["schedulerName"] = scheduler
    metadata: Json = {"name": name, **({"namespace": namespace} if namespace else {})}
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def deployment(name: str, replicas: int, template: Json) -> Json:
    """A Deployment of `replicas` copies of a pod made by `pod`."""
    labels = {"app": name, **template["metadata"].get("labels", {})}
    given = template["metadata"]
    place = {"namespace": given["namespace"]} if "namespace" in given else {}
    meta = {key: value for key, value in given.items() if key == "annotations"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **place},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {**meta, "labels": labels}, "spec": template["spec"]},
        },
    }


def phase_is(phase: str) -> Callable[[Json], bool]:
    return lambda body: body.get("status", {}).get("phase") == phase


def running(body: Json) -> bool:
    """Phase Running with every container started."""
    status = body.get("status", {})
    states = status.get("containerStatuses", [])
    return status.get("phase") == "Running" and bool(states) and all("running" in s["state"] for s in states)


def create_all(api: Api, pods: Iterable[Json], workers: int = 16) -> list[Json]:
    """Creates them concurrently; the stored objects come back in the given order."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(api.create, pods))


def wait_all(
    api: Api, names: Iterable[str], condition: Callable[[Json], object] = running, *,
    namespace: str | None = None, timeout_s: float = 180,
) -> dict[str, Json]:  # fmt: skip
    """All of these pods by name, once `condition` holds on each. Costs one LIST a poll, not one GET a pod."""
    wanted = set(names)
    found: dict[str, Json] = {}

    def all_hold() -> bool:
        found.update({one["metadata"]["name"]: one for one in api.items("Pod", namespace)})
        return all(name in found and condition(found[name]) for name in wanted)

    try:
        wait_until(f"{len(wanted)} pods", all_hold, timeout_s, every_s=0.2)
    except RuntimeError as error:
        late = [f"{name}: {_why(found.get(name))}" for name in sorted(wanted) if not condition(found.get(name, {}))]
        raise type(error)(f"{error}\n" + "\n".join(late[:20])) from None
    return {name: found[name] for name in wanted}


def burst(
    api: Api, pods: Sequence[Json], *, namespace: str | None = None, timeout_s: float = 180
) -> tuple[float, float]:
    """Creates all at once and waits until all run: seconds for the creation, and until the last was Running."""
    began = time.monotonic()
    create_all(api, pods)
    created = time.monotonic()
    wait_all(api, [one["metadata"]["name"] for one in pods], namespace=namespace, timeout_s=timeout_s)
    return created - began, time.monotonic() - began


def delete_all(api: Api, names: Iterable[str], *, namespace: str | None = None, timeout_s: float = 120) -> None:
    """Deletes these pods and waits until none is left."""
    wanted = set(names)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: api.delete("Pod", name, namespace), wanted))
    left = lambda: {one["metadata"]["name"] for one in api.items("Pod", namespace)} & wanted  # noqa: E731
    wait_until(f"{len(wanted)} pods gone", lambda: not left(), timeout_s, every_s=0.2)


def report(api: Api, name: str, container: str = "", namespace: str | None = None, timeout_s: float = 30) -> Report:
    """What the container saw at its latest start. The container must run `/bin/report`."""
    text = wait_until(
        f"report of {name}", lambda: _complete(api.log(name, container, namespace)), timeout_s=timeout_s
    )  # fmt: skip
    return read_report(str(text))


def read_report(log: str) -> Report:
    """Parses the output of `/bin/report`. Values of several lines keep only what follows `NAME=` on the first."""
    head, *files = re.split(r"^=== file ", log.split("=== env\n", 1)[1].split("=== end", 1)[0], flags=re.MULTILINE)
    env = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    contents = (part.split("\n", 1) for part in files)
    return Report(env, {path: text.removesuffix("\n") for path, text in contents})


def _complete(log: str) -> str:
    return log if "=== end" in log else ""


def _why(body: Json | None) -> str:
    if not body:
        return "does not exist"
    status = body.get("status", {})
    waiting = [s["state"].get("waiting") for s in status.get("containerStatuses", [])]
    conditions = [c.get("message") for c in status.get("conditions", []) if c.get("status") == "False"]
    return f"{status.get('phase')} {status.get('reason', '')} {status.get('message', '')} {waiting} {conditions}"
