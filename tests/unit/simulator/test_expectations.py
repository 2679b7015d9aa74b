"""The demo's judgement: what must come of a manifest, and that each way to fall short of it is noticed."""

from typing import Any

import msgspec
import pytest

from tessera.kube import wire
from tessera.kube.resources import DEPLOYMENTS, JOBS, PODS, Resource, untyped
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpus import Gpu, GpuNode
from tessera.simulator.expectations import Outcome, expected, template_pod, unmet
from tessera.simulator.manifests import Manifest
from tessera.simulator.observation import Observation, figures_of, rebuilt
from tessera.simulator.report import reason_of, report_of
from tessera.simulator.workload import USE

Plain = dict[str, Any]
GIB = 1 << 30
NODES = [GpuNode("n1", tuple(Gpu(f"GPU-{i}", "T4", 14 * GIB, 15 * GIB) for i in range(2)))]
SHARE = Share("GPU-0", 4 * GIB)


def manifest(
    limits: Plain, resource: Resource[Plain] | None = None, notes: Plain | None = None, **spec: Any
) -> Manifest:
    pod_spec = {"containers": [{"name": "main", "resources": {"limits": limits}}]}
    meta = {"name": "w", "annotations": notes or {}}
    if resource is None:
        return Manifest("w.yaml", untyped(PODS), {"metadata": meta, "spec": pod_spec})
    return Manifest("w.yaml", resource, {"metadata": {"name": "w"}, "spec": {"template": {"spec": pod_spec}, **spec}})


def outcome(made: Manifest) -> tuple[Outcome, int]:
    found = expected(made, template_pod(made.object, made), NODES)
    return found.outcome, found.count


def asks(mem: str, **more: str) -> Plain:
    return {"tessera.io/gpu-mem": mem, "tessera.io/slice": "1", **more}


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (manifest(asks("4Gi")), (Outcome.RUN, 1)),
        (manifest(asks("15Gi")), (Outcome.WAIT, 1)),
        (manifest(asks("28Gi", **{"tessera.io/gpu-count": "2"})), (Outcome.RUN, 1)),
        (manifest(asks("30Gi", **{"tessera.io/gpu-count": "3"})), (Outcome.WAIT, 1)),
        (manifest({"tessera.io/gpu": "2", "tessera.io/slice": "1"}), (Outcome.RUN, 1)),
        (manifest(asks("2Gi"), notes={USE: "3Gi"}), (Outcome.OVER_LIMIT, 1)),
        (manifest(asks("4Gi"), DEPLOYMENTS, replicas=3), (Outcome.RUN, 3)),
        (manifest(asks("4Gi"), JOBS, completions=4), (Outcome.COMPLETE, 4)),
        (manifest({"cpu": "1"}), (Outcome.RUN, 1)),
    ],
)
def test_the_outcome_follows_from_the_manifest_and_the_gpus(made: Manifest, wanted: tuple[Outcome, int]) -> None:
    assert outcome(made) == wanted


def pod(
    share: Share | None = SHARE, *, uid: str = "u", name: str = "w", phase: str = "Running", **status: Any
) -> wire.Pod:
    notes = {"tessera.io/assignment": encode(Assignment((("main", (share,)),)))} if share else {}
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": uid, "annotations": notes},
        "spec": {
            "nodeName": "n1" if share else "",
            "containers": [{"name": "main", "resources": {"limits": asks("4Gi")}}],
        },
        "status": {"phase": phase, **status},
    }
    return msgspec.convert(body, wire.Pod)


def seen(*pods: wire.Pod, **changes: Any) -> Observation:
    """All three sides agree, but for ``changes``."""
    held = {(p.metadata.uid, "main"): figures_of([SHARE]) for p in pods if p.status.phase == "Running"}
    sides: Plain = {"views": held, "records": held, "events": [], **changes}
    return Observation(pods=pods, nodes=NODES, ledger=rebuilt(NODES, pods), **sides)


def judged(found: Observation, made: Manifest | None = None) -> list[str]:
    made = made or manifest(asks("4Gi"))
    return unmet([expected(made, template_pod(made.object, made), NODES)], found)


def test_a_pod_that_runs_with_what_it_asked_for_is_right() -> None:
    assert judged(seen(pod())) == []


def test_a_pod_that_is_missing_or_waits_is_named_with_its_reason() -> None:
    [missing] = judged(seen())
    assert "w.yaml: Pod w: expected 1 to run; found no pods" in missing
    blocked = pod(None, phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "no room"}])
    [waiting] = judged(seen(blocked))
    assert "found w Pending no room" in waiting


def test_a_pod_that_holds_another_amount_is_noticed() -> None:
    other = Share("GPU-0", 5 * GIB)
    figures = {("u", "main"): figures_of([other])}
    [sentence] = judged(seen(pod(other), views=figures, records=figures))
    assert "asks for" in sentence and "the assignment gives" in sentence


def test_a_container_that_sees_something_else_is_noticed() -> None:
    swapped = {("u", "main"): figures_of([Share("GPU-1", 4 * GIB)])}
    [sentence] = judged(seen(pod(), views=swapped))
    assert "the container says 4Gi and 0% of GPU-1; the ledger says 4Gi and 0% of GPU-0" in sentence


def test_a_record_that_the_agent_lacks_or_kept_is_noticed() -> None:
    [lacking] = judged(seen(pod(), records={}))
    assert "the node agent's record says nothing" in lacking
    kept = {("u", "main"): figures_of([SHARE]), ("gone", "main"): figures_of([SHARE])}
    [left] = judged(seen(pod(), records=kept))
    assert "pod gone, container main" in left and "the ledger says nothing" in left


def test_an_over_committed_gpu_is_a_violation() -> None:
    large = Share("GPU-0", 8 * GIB)
    found = seen(pod(large, uid="a", name="a"), pod(large, uid="b", name="b"))
    assert report_of(found).over_committed == ("GPU-0",)
    assert report_of(found).violations == 1


def test_only_a_reasoned_end_by_the_agent_counts_for_a_pod_that_takes_too_much() -> None:
    made = manifest(asks("2Gi"), notes={USE: "3Gi"})
    terminated = {"terminated": {"exitCode": 137, "reason": "Error"}}
    ended = pod(phase="Failed", containerStatuses=[{"name": "main", "state": terminated}])
    assert reason_of(seen(ended), ended) == "Error (exit code 137)"
    assert "expected 1 to end for taking more than asked" in judged(seen(ended), made)[0]
    text = "container main uses 3Gi of GPU GPU-0, limit 2Gi: its newest process, 1, was ended"
    about = wire.ObjectReference(kind="Pod", namespace="default", name="w", uid="u")
    event = wire.Event(involved_object=about, reason="SliceOverLimit", message=text, last_timestamp="t")
    assert judged(seen(ended, events=[event]), made) == []


def test_a_pod_that_has_ended_holds_nothing_and_says_why() -> None:
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    [line] = report_of(seen(pod(phase="Succeeded", containerStatuses=[{"name": "main", "state": done}]))).pods
    assert (line.gpus, line.reason, line.phase) == ((), "Completed", "Succeeded")
