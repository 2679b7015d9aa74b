"""What the controller sees in objects, and what it writes of a status."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tessera.kube import wire
from tessera.model import names
from tessera.model.assignment import Assignment, Share, encode
from tessera.model.gpu_leases import Attach, Phase, Slice
from tessera.remote.controller.pods import Options, executor_pod
from tessera.remote.controller.reading import client_pod, executor_of, record_of, status_patch
from tessera.remote.controller.records import Status
from tessera.remote.controller.steps import Create, Wait, Write
from tests.unit.remote.controller.test_steps import NAME, WHERE, record, step

OPTIONS = Options("pool", "controller:8444", "torch:1", "tessera:1", "executors", "ca", cpu="2", memory="4Gi")


def pod(**parts: Any) -> wire.Pod:
    return msgspec.convert(parts, wire.Pod)


def container(state: dict[str, Any]) -> dict[str, Any]:
    return {"phase": "Running", "containerStatuses": [{"name": "gate", "state": state}]}


def test_an_executors_address_is_its_gates() -> None:
    meta = {"name": "e", "uid": "u", "labels": {names.LEASE_UID: "l"}, "annotations": {names.LEASE: "ns/n"}}
    found = executor_of(pod(metadata=meta, status={"phase": "Running", "podIP": "10.0.0.1"}), 7443)
    assert (found.endpoint, found.lease_uid, found.lease, found.fault) == ("10.0.0.1:7443", "l", "ns/n", "")
    assert executor_of(pod(status={"podIP": "fd00::1"}), 7443).endpoint == "[fd00::1]:7443"
    assert executor_of(pod(), 7443).endpoint == ""


def test_a_label_alone_makes_no_executor() -> None:
    """Labels are anybody's who writes pods in the pool's namespace; the annotation is the controller's."""
    forged = pod(metadata={"name": NAME, "uid": "u", "labels": {names.LEASE_UID: "lease-uid"}})
    assert executor_of(forged, 1).lease_uid == ""


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (
            container({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "container gate ended with status 137 (OOMKilled)",
        ),
        (container({"terminated": {"exitCode": 0}}), "container gate ended with status 0"),
        ({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no slot"}, "found it Failed: no slot"),
        ({"phase": "Succeeded"}, "found it Succeeded"),
        (container({"running": {}}), ""),
        (container({"waiting": {"reason": "ContainerCreating"}}), ""),
    ],
)  # fmt: skip
def test_the_end_of_any_container_is_the_executors(status: dict[str, Any], fault: str) -> None:
    assert executor_of(pod(status=status), 1).fault == fault


def test_what_an_executor_waits_for_is_said_by_others() -> None:
    said = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    found = executor_of(pod(metadata={"name": "e"}, status={"phase": "Pending", "conditions": [said]}), 1)
    assert found.waits == "executor e: 0/3 nodes are available"
    status = container({"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
    found = executor_of(pod(metadata={"name": "e"}, spec={"nodeName": "n"}, status=status), 1)
    assert found.waits == "executor e: container gate: ErrImagePull: no such image"
    assert executor_of(pod(spec={"nodeName": "n"}), 1).waits == ""


def test_long_words_of_others_are_written_once() -> None:
    """The lease keeps a part of them: that it is not the whole is no news."""
    said = {"type": "PodScheduled", "status": "False", "message": "0/5000 nodes are available: " + "n" * 4000}
    found = executor_of(pod(metadata={"name": NAME, "uid": "uid-1"}, status={"conditions": [said]}), 1)
    seen = record(epoch=1, executor=NAME, executor_uid="uid-1")
    match step(seen, found):
        case Write(status):
            stored = status_patch(seen, status, "pool", "t")["status"]["message"]
            assert stored.startswith(f"executor {NAME}: 0/5000 nodes") and len(stored) == 1024
            assert step(replace(seen, status=replace(status, message=stored)), found) == Wait()
        case other:
            raise AssertionError(other)


def test_a_client_is_a_bound_pod_whose_assignment_names_leases() -> None:
    leased = {names.ASSIGNMENT: encode(Assignment((), "", (("main", "train-1"),)))}
    local = {names.ASSIGNMENT: encode(Assignment((("main", (Share("G", 1),)),)))}
    forged = {names.ASSIGNMENT: '{"lease":'}
    found = [
        client_pod(pod(metadata={"uid": "u", "annotations": notes}, spec={"nodeName": node})).leases
        for notes, node in ((leased, "n"), (leased, ""), (local, "n"), (forged, "n"), ({}, "n"))
    ]
    assert found == [("train-1",), (), (), (), ()]


def test_a_status_is_written_whole_and_read_back() -> None:
    status = Status(
        Phase.ACTIVE, 3, Attach("slot-1", "c0ffee"), "executor-1", "uid-1", "10.0.0.1:7443", "", "executor-2", "uid-2"
    )
    patch = status_patch(record(), status, "pool", "2026-01-01T00:00:00Z")
    assert patch["metadata"] == {"uid": "lease-uid", "resourceVersion": "7"}
    assert patch["status"]["message"] is None, "what does not hold any more is removed"
    assert patch["status"]["serverName"] == "lease-uid.pool.tessera.io"
    told = {key: value for key, value in patch["status"].items() if value is not None}
    assert record_of(msgspec.convert({"status": told}, wire.GpuLease)).status == status
    lost = status_patch(record(), Status(Phase.LOST, 3, message="m" * 2000), "pool", "t")["status"]
    assert (lost["executor"], lost["endpoint"], lost["serverName"], len(lost["message"])) == (None, None, None, 1024)


def made(client: wire.Pod | None = None, options: Options = OPTIONS) -> dict[str, Any]:
    return executor_pod(record(), Create("executor-1", 1, WHERE), client or wire.Pod(), "", options)


def test_the_executor_has_no_token_and_the_gate_no_slice() -> None:
    spec = made()["spec"]
    executor, gate = spec["containers"]
    assert spec["automountServiceAccountToken"] is False and spec["restartPolicy"] == "Never"
    token = [volume["name"] for volume in spec["volumes"] if "projected" in volume]
    assert token == ["gate-token"]
    assert token[0] in [mount["name"] for mount in gate["volumeMounts"]]
    assert token[0] not in [mount["name"] for mount in executor["volumeMounts"]]
    assert not [key for key in gate["resources"]["limits"] if key.startswith("tessera.io/")]
    users = [each["securityContext"]["runAsUser"] for each in spec["containers"]]
    assert len(set(users)) == 2 and 0 not in users
    for each in spec["containers"]:
        assert (
            each["securityContext"]["readOnlyRootFilesystem"]
            and not each["securityContext"]["allowPrivilegeEscalation"]
        )
        assert not [variable for variable in each.get("env", []) if variable["name"].startswith("TESSERA_")]
        for key, limit in each["resources"]["limits"].items():
            assert each["resources"]["requests"][key] == limit


def test_both_containers_together_ask_what_the_operator_says() -> None:
    requests = [each["resources"]["requests"] for each in made()["spec"]["containers"]]
    assert sum(int(each["cpu"].removesuffix("m")) for each in requests) == 2000
    assert sum(int(each["memory"]) for each in requests) == 4 << 30


def test_priority_and_quality_of_service_are_the_clients() -> None:
    notes = {
        names.QOS: "burstable",
        names.GPU_CORE_LIMIT: "60",
        names.ENFORCEMENT: "2",
        "tessera.io/remote": "required",
    }
    client = pod(metadata={"annotations": notes}, spec={"priorityClassName": "high"})
    found = made(client)
    assert found["spec"]["priorityClassName"] == "high" and "priorityClassName" not in made()["spec"]
    annotations = found["metadata"]["annotations"]
    assert annotations == {
        names.QOS: "burstable", names.GPU_CORE_LIMIT: "60", names.ENFORCEMENT: "2", names.LEASE: "default/train-1",
        names.LEASE_EPOCH: "1",
    }  # fmt: skip


def test_the_executor_of_a_move_has_the_slice_that_it_moves_to_and_is_its_nodes() -> None:
    to = Slice("other", Share("GPU-2", 2 << 20, 40))
    found = executor_pod(record(), Create("executor-3", 3, to, target=True), wire.Pod(), "uid-of-node", OPTIONS)
    assert found["metadata"]["annotations"][names.LEASE_SLICE] == "target"
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
        "GPUNode",
        "other",
        "uid-of-node",
        True,
    )
    limits = found["spec"]["containers"][0]["resources"]["limits"]
    assert (limits[names.GPU_MEM], limits[names.GPU_CORE]) == (str(2 << 20), "40")
    assert names.LEASE_SLICE not in made()["metadata"]["annotations"] and "ownerReferences" not in made()["metadata"]


def test_an_operator_adds_to_the_spec_and_takes_nothing_away() -> None:
    more = Options("pool", "c:1", "t", "g", "a", "ca", spec={"tolerations": [{"key": "x"}], "restartPolicy": "Always"})
    spec = made(options=more)["spec"]
    assert spec["tolerations"] == [{"key": "x"}] and spec["restartPolicy"] == "Never"
