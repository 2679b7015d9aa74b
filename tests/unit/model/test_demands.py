"""What a pod asks for, rule by rule of the contract."""

from collections.abc import Mapping

import pytest

from tessera.model import names
from tessera.model.demands import ContainerDemand, PodDemand, demand_of
from tessera.model.gpus import Gpu
from tessera.model.placements import Choice, Qos
from tessera.model.pods import ContainerSpec, Kind, Pod
from tessera.model.quantities import GIB, MIB
from tessera.reasons import Code, Reason


def pod(*limits: Mapping[str, str], kind: Kind = Kind.APP, **annotations: str) -> Pod:
    containers = tuple(
        ContainerSpec(f"c{i}", f"spec.containers[{i}]", kind, {f"tessera.io/{k}": v for k, v in each.items()})
        for i, each in enumerate(limits)
    )
    written = {f"tessera.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return Pod("default", "web", "uid-1", containers, written)


def demand(*limits: Mapping[str, str], **annotations: str) -> PodDemand:
    found = demand_of(pod(*limits, **annotations))
    assert isinstance(found, PodDemand), found
    return found


def refusal(*limits: Mapping[str, str], **annotations: str) -> str:
    found = demand_of(pod(*limits, **annotations))
    assert isinstance(found, Reason), found
    assert found.code is Code.INVALID_REQUEST
    return found.text


def test_a_pod_without_our_resources_asks_for_nothing() -> None:
    assert (
        demand_of(Pod("default", "web", "u", (ContainerSpec("c", "spec.containers[0]", limits={"cpu": "1"}),))) is None
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"gpu-mem": "4Gi"}, ContainerDemand("c0", 1, 4 * GIB, 0)),
        ({"gpu-mem": "500M"}, ContainerDemand("c0", 1, 477 * MIB, 0)),
        ({"gpu-mem": "1"}, ContainerDemand("c0", 1, MIB, 0)),
        ({"gpu-mem": "4Gi", "gpu-core": "30"}, ContainerDemand("c0", 1, 4 * GIB, 30)),
        ({"gpu-mem": "16Gi", "gpu-count": "2"}, ContainerDemand("c0", 2, 8 * GIB, 0)),
        ({"gpu-mem": "5Gi", "gpu-count": "3"}, ContainerDemand("c0", 3, 1707 * MIB, 0)),
        ({"gpu-mem": "2Gi", "gpu-core": "120", "gpu-count": "2"}, ContainerDemand("c0", 2, GIB, 60)),
        ({"gpu-core": "25"}, ContainerDemand("c0", 1, 0, 25)),
        ({"gpu": "2"}, ContainerDemand("c0", 2, 0, 100, whole=True)),
    ],
)
def test_totals_are_spread_evenly_and_rounded_up(limits: dict[str, str], expected: ContainerDemand) -> None:
    assert demand({**limits, "slice": "1"}).containers == (expected,)


def test_each_container_holds_its_own() -> None:
    found = demand({"gpu-mem": "1Gi", "slice": "1"}, {}, {"gpu": "1", "slice": "1"})
    assert [c.container for c in found.containers] == ["c0", "c2"]


def test_compute_alone_gets_the_same_share_of_the_memory() -> None:
    (container,) = demand({"gpu-core": "30", "slice": "1"}).containers
    assert container.mem_on(Gpu("GPU-1", "T4", 15 * GIB, 16 * GIB)) == 4608 * MIB


@pytest.mark.parametrize(
    ("limits", "field", "found", "allowed"),
    [
        ({"gpu-mem": "4GB"}, "tessera.io/gpu-mem", "4GB", "whole bytes"),
        ({"gpu-mem": "0"}, "tessera.io/gpu-mem", "0", "from 1"),
        ({"gpu-mem": "-4Gi"}, "tessera.io/gpu-mem", "-4Gi", "from 1"),
        ({"gpu-mem": "0.3Gi"}, "tessera.io/gpu-mem", "0.3Gi", "whole bytes"),
        ({"gpu-mem": "500m"}, "tessera.io/gpu-mem", "500m", "whole bytes"),
        ({"gpu-mem": "100Ti"}, "tessera.io/gpu-mem", "100Ti", "64Ti"),
        ({"gpu-core": "101"}, "tessera.io/gpu-core", "101", "1 to 100"),
        ({"gpu-core": "0"}, "tessera.io/gpu-core", "0", "1 to 100"),
        ({"gpu-core": "201", "gpu-count": "2"}, "tessera.io/gpu-core", "201", "1 to 200"),
        ({"gpu-core": "51", "gpu-count": "2"}, "tessera.io/gpu-core", "51", "multiple"),
        ({"gpu-mem": "1Gi", "gpu-count": "0"}, "tessera.io/gpu-count", "0", "1 to 64"),
        ({"gpu-count": "2"}, "tessera.io/gpu-count", "2", "only beside"),
        ({"gpu": "1", "gpu-mem": "4Gi"}, "tessera.io/gpu-mem", "4Gi", "not beside tessera.io/gpu"),
        ({"gpu": "1", "gpu-core": "5"}, "tessera.io/gpu-core", "5", "not beside tessera.io/gpu"),
        ({"gpu": "1.5"}, "tessera.io/gpu", "1.5", "whole number"),
        ({"gpu-mem": "4Gi", "slice": "2"}, "tessera.io/slice", "2", "1, as the webhook"),
        ({"slice": "1"}, "tessera.io/slice", "1", "only beside"),
    ],
)
def test_what_is_malformed_is_refused_in_one_sentence(
    limits: dict[str, str], field: str, found: str, allowed: str
) -> None:
    text = refusal({"slice": "1", **limits})
    assert "spec.containers[0].resources.limits" in text
    assert field in text and found in text and allowed in text.split("allowed: ")[1]
    assert "\n" not in text


def test_a_request_without_a_slot_is_refused_because_nothing_would_hold_it() -> None:
    assert "tessera.io/slice" in refusal({"gpu-mem": "4Gi"})


@pytest.mark.parametrize("others", [{}, {"gpu-mem": "4Gi", "slice": "1"}, {"slice": "1"}])
def test_a_key_that_the_contract_does_not_have_is_refused_by_name(others: dict[str, str]) -> None:
    assert "[tessera.io/gpu-ram]: found '4Gi'" in refusal({**others, "gpu-ram": "4Gi"})


def test_a_short_name_that_nobody_rewrote_is_refused_by_name() -> None:
    container = ContainerSpec("c", "spec.containers[0]", limits={"gpu-mem": "4Gi"})
    found = demand_of(Pod("default", "web", "u", (container,)))
    assert isinstance(found, Reason) and "limits[gpu-mem]: found '4Gi'; allowed: tessera.io/gpu-mem" in found.text


def test_requests_and_limits_compare_as_quantities() -> None:
    limits = {names.GPU_MEM: "4294967296", names.SLICE: "1"}
    container = ContainerSpec("c", "spec.containers[0]", limits=limits, requests={names.GPU_MEM: "4Gi"})
    assert isinstance(demand_of(Pod("default", "web", "u", (container,))), PodDemand)


def test_requests_must_equal_limits() -> None:
    spec = ContainerSpec("c", "spec.containers[0]", limits={names.GPU_MEM: "4Gi", names.SLICE: "1"},
                         requests={names.GPU_MEM: "2Gi"})  # fmt: skip
    found = demand_of(Pod("default", "web", "u", (spec,)))
    assert isinstance(found, Reason) and "requests[tessera.io/gpu-mem]" in found.text


@pytest.mark.parametrize("kind", [Kind.INIT, Kind.EPHEMERAL])
def test_slices_have_no_place_in_init_and_ephemeral_containers(kind: Kind) -> None:
    found = demand_of(pod({"gpu-mem": "1Gi", "slice": "1"}, kind=kind))
    assert isinstance(found, Reason) and kind in found.text


def test_a_sidecar_may_hold_a_slice() -> None:
    assert isinstance(demand_of(pod({"gpu-mem": "1Gi", "slice": "1"}, kind=Kind.SIDECAR)), PodDemand)


@pytest.mark.parametrize("key", ["gpu-mem", names.GPU_MEM])
def test_slices_have_no_place_at_pod_level(key: str) -> None:
    found = demand_of(Pod("default", "web", "u", resources={key: "4Gi"}))
    assert isinstance(found, Reason) and f"spec.resources[{key}]" in found.text


def test_annotations_are_read() -> None:
    found = demand({"gpu-core": "30", "slice": "1"}, placement="spread", qos="burstable", gpu_core_limit="60",
                   enforcement="1", gpu_model="NVIDIA L4, !NVIDIA T4")  # fmt: skip
    preferences = found.preferences
    assert preferences.placement == "spread"
    assert (preferences.qos, preferences.core_limit_percent) == (Qos.BURSTABLE, 60)
    assert preferences.models == Choice(frozenset({"nvidia l4"}), frozenset({"nvidia t4"}))
    assert preferences.enforcement == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("placement", "best"), ("remote", "yes"), ("qos", "Guaranteed"), ("enforcement", "4"), ("enforcement", "-1"),
     ("gpu_core_limit", "60"), ("gpu_model", "a,,b"), ("gpu_uuid", "!")],
)  # fmt: skip
def test_unknown_annotation_values_are_refused(key: str, value: str) -> None:
    text = refusal({"gpu-core": "30", "slice": "1"}, **{key: value})
    assert f"metadata.annotations[tessera.io/{key.replace('_', '-')}]" in text and repr(value) in text


def test_a_core_limit_below_the_request_is_refused() -> None:
    assert "at least the request, 30" in refusal({"gpu-core": "30", "slice": "1"}, qos="burstable", gpu_core_limit="20")


@pytest.mark.parametrize("limits", [{"gpu-mem": "512Mi"}, {"gpu-mem": "1Gi", "gpu-count": "2"}, {"gpu-core": "1"}])
def test_a_slice_that_holds_a_context_on_each_gpu_is_asked_for(limits: dict[str, str]) -> None:
    assert isinstance(demand_of(pod({**limits, "slice": "1"}), 512 * MIB), PodDemand)


@pytest.mark.parametrize("limits", [{"gpu-mem": "536870911"}, {"gpu-mem": "1023Mi", "gpu-count": "2"}])
def test_less_than_a_context_for_each_gpu_is_refused(limits: dict[str, str]) -> None:
    found = demand_of(pod({**limits, "slice": "1"}), 512 * MIB)
    assert isinstance(found, Reason) and found.code is Code.INVALID_REQUEST
    asked, allowed = limits["gpu-mem"], "at least 512Mi for each GPU, which a program's context takes"
    assert found.text == f"spec.containers[0].resources.limits[tessera.io/gpu-mem]: found '{asked}'; allowed: {allowed}"
