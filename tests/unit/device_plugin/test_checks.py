"""What must hold before a container starts."""

from dataclasses import replace

import pytest

from tessera.device_plugin.checks import Grant, check_gpus, grant_of, may_pass
from tessera.device_plugin.refusals import Refusal
from tessera.device_plugin.slices import Book, Holder, Slice, over_commit
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import Gpu, Health
from tessera.model.names import ASSIGNMENT
from tessera.model.pods import ContainerSpec, Pod
from tessera.reasons import Code

GIB = 1 << 30
GPU = Gpu("GPU-a", "NVIDIA A100", 40 * GIB, 41 * GIB)
GPUS = {"GPU-a": GPU}
LIMITS = {"tessera.io/gpu-mem": "4Gi", "tessera.io/gpu-core": "30", "tessera.io/slice": "1"}
SHARE = Share("GPU-a", 4 * GIB, 30)


def pod(assignment: str | None, limits: dict[str, str] = LIMITS) -> Pod:
    annotations = {} if assignment is None else {ASSIGNMENT: assignment}
    container = ContainerSpec("main", "spec.containers[0]", limits=limits)
    return Pod("ns", "web", "uid-1", (container,), annotations, node="node-a")


def given(*shares: Share, container: str = "main") -> str:
    return encode(Assignment(((container, shares),)))


def grant(found: Grant | Refusal) -> Grant:
    assert isinstance(found, Grant), found
    return found


def test_a_right_assignment_is_granted() -> None:
    found = grant(grant_of(pod(given(SHARE)), "main"))
    assert found.shares == (SHARE,)
    assert check_gpus(found, "main", GPUS) is None


@pytest.mark.parametrize(
    ("annotation", "code", "says"),
    [
        (None, Code.NO_ASSIGNMENT, "has no tessera.io/assignment"),
        ("{", Code.INVALID_ASSIGNMENT, "is not JSON"),
        ('{"version":0,"containers":{}}', Code.INVALID_ASSIGNMENT, "found version 0; allowed: 1"),
        ("[]", Code.INVALID_ASSIGNMENT, "found version"),
        (given(SHARE, container="other"), Code.INVALID_ASSIGNMENT, r"found containers \['other'\]"),
        (given(Share("GPU-a", 8 * GIB, 30)), Code.INVALID_ASSIGNMENT, "asks for"),
        (given(Share("GPU-a", 4 * GIB, 100)), Code.INVALID_ASSIGNMENT, "asks for"),
        (given(Share("GPU-a", 4 * GIB, 30, True)), Code.INVALID_ASSIGNMENT, "asks for"),
        (given(SHARE, Share("GPU-b", 4 * GIB, 30)), Code.INVALID_ASSIGNMENT, "asks for 1 GPUs"),
    ],
)
def test_a_wrong_assignment_ends_the_pod(annotation: str | None, code: Code, says: str) -> None:
    found = grant_of(pod(annotation), "main")
    assert isinstance(found, Refusal)
    assert found.permanent and found.reason.code is code
    assert __import__("re").search(says, found.reason.text), found.reason.text


def test_an_assignment_of_a_newer_scheduler_waits_for_a_newer_plugin() -> None:
    found = grant_of(pod('{"version":2,"containers":{"main":{"slices":[]}}}'), "main")
    assert isinstance(found, Refusal) and not found.permanent
    assert "found version 2; allowed: 1 (waits for a newer device plugin)" in str(found)


def test_a_pod_whose_request_is_malformed_ends() -> None:
    found = grant_of(pod(given(SHARE), {**LIMITS, "tessera.io/gpu-core": "200"}), "main")
    assert isinstance(found, Refusal) and found.permanent
    assert "gpu-core" in found.reason.text


def test_a_gpu_of_another_node_is_refused_and_named() -> None:
    refusal = check_gpus(grant(grant_of(pod(given(Share("GPU-x", 4 * GIB, 30))), "main")), "main", GPUS)
    assert refusal and refusal.reason.code is Code.GPU_GONE and may_pass(refusal)
    assert "GPU-x is not on this node, which has GPU-a" in refusal.reason.text


def test_a_sick_gpu_is_refused_with_its_reason() -> None:
    sick = {"GPU-a": replace(GPU, health=Health(False, "Xid 79"))}
    refusal = check_gpus(grant(grant_of(pod(given(SHARE)), "main")), "main", sick)
    assert refusal and refusal.reason.code is Code.UNHEALTHY and "Xid 79" in refusal.reason.text


def test_a_gpu_below_the_pods_enforcement_level_is_refused() -> None:
    wanting = pod(given(SHARE))
    wanting = replace(wanting, annotations={**wanting.annotations, "tessera.io/enforcement": "2"})
    refusal = check_gpus(grant(grant_of(wanting, "main")), "main", GPUS)
    assert refusal and refusal.reason.code is Code.ENFORCEMENT_TOO_WEAK


def test_compute_only_gives_the_same_share_of_memory_and_no_more() -> None:
    limits = {"tessera.io/gpu-core": "25", "tessera.io/slice": "1"}
    fair = grant(grant_of(pod(given(Share("GPU-a", 10 * GIB, 25)), limits), "main"))
    greedy = grant(grant_of(pod(given(Share("GPU-a", 11 * GIB, 25)), limits), "main"))
    assert check_gpus(fair, "main", GPUS) is None
    refusal = check_gpus(greedy, "main", GPUS)
    assert refusal and refusal.permanent and refusal.reason.code is Code.INVALID_ASSIGNMENT


def claimed(device: str, share: Share) -> Slice:
    return Slice(device, device[:8], 1, Holder(device, "ns", device, "main"), (share,))


@pytest.mark.parametrize(
    ("others", "mine", "fits"),
    [
        ([], Share("GPU-a", 40 * GIB), True),
        ([], Share("GPU-a", 40 * GIB + 1), False),
        ([Share("GPU-a", 36 * GIB)], Share("GPU-a", 4 * GIB), True),
        ([Share("GPU-a", 36 * GIB)], Share("GPU-a", 4 * GIB + 1), False),
        ([Share("GPU-a", GIB, 70)], Share("GPU-a", GIB, 30), True),
        ([Share("GPU-a", GIB, 71)], Share("GPU-a", GIB, 30), False),
        ([Share("GPU-a", GIB)], Share("GPU-a", 40 * GIB, 100, True), False),
        ([Share("GPU-a", 40 * GIB, 100, True)], Share("GPU-a", GIB), False),
        ([Share("GPU-b", 40 * GIB)], Share("GPU-a", 40 * GIB), True),
    ],
)
def test_slices_of_one_gpu_never_exceed_it(others: list[Share], mine: Share, fits: bool) -> None:
    book = Book(claimed(f"slot-{n:03d}-" + "a" * 32, share) for n, share in enumerate(others, 1))
    found = over_commit(book, "slot-000-" + "b" * 32, [mine], GPUS)
    assert (found is None) == fits
    if found:
        assert found[0].permanent and found[0].reason.code is Code.OVER_COMMITTED
        assert len(found[1]) == len(others)
