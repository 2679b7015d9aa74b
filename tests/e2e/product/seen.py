"""What a pod was given, and what its containers see of it from inside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from tessera.model.assignment import Share, decode
from tests.e2e.cluster import pods
from tests.e2e.cluster.api import Api, Json


def given(pod: Json, container: str = "main") -> tuple[Share, ...]:
    """The shares of one container by the pod's assignment."""
    shares = decode(pod["metadata"]["annotations"]["tessera.io/assignment"]).of(container)
    assert shares is not None
    return shares


def all_given(found: Iterable[Json]) -> Iterator[Share]:
    """The shares of all pods that hold room."""
    for pod in found:
        notes = pod["metadata"].get("annotations", {})
        if "tessera.io/assignment" in notes and pod["status"].get("phase") not in ("Failed", "Succeeded"):
            yield from decode(notes["tessera.io/assignment"]).shares


def bytes_by_gpu(found: Iterable[Json]) -> Counter[str]:
    """Bytes that the pods hold of each GPU, by UUID."""
    held: Counter[str] = Counter()
    for share in all_given(found):
        held[share.uuid] += share.mem_bytes
    return held


def assert_report_is(report: pods.Report, shares: tuple[Share, ...]) -> None:
    """The environment and the mounted file name these shares and nothing else."""
    uuids = ",".join(share.uuid for share in shares)
    assert report.env["CUDA_VISIBLE_DEVICES"] == uuids
    assert report.env["NVIDIA_VISIBLE_DEVICES"] == uuids
    assert report.env["TESSERA_MEM_LIMIT_BYTES"] == ",".join(str(share.mem_bytes) for share in shares)
    assert report.env["TESSERA_CORE_LIMIT_PERCENT"] == ",".join(str(share.core_percent) for share in shares)
    gpus = json.loads(report.files["/run/tessera/slice.json"])["gpus"]
    assert [Share(g["uuid"], g["mem_bytes"], g["core_percent"]) for g in gpus] == [
        Share(share.uuid, share.mem_bytes, share.core_percent) for share in shares
    ]


def assert_sees_its_own(api: Api, pod: Json, container: str = "main") -> None:
    """What the container sees from inside is what the Binding gave it, and nothing else."""
    assert_report_is(pods.report(api, pod["metadata"]["name"], container), given(pod, container))
