"""The kubelet's checkpoint file."""

import base64
import json
from pathlib import Path

import pytest

from tessera.device_plugin.checkpoint import CheckpointError, Held, parse, read
from tessera.pb.deviceplugin.v1beta1 import api_pb2


def file(device_ids: object, resource: str = "tessera.io/slice", answer: str | None = "") -> bytes:
    entry = {
        "PodUID": "uid-1",
        "ContainerName": "main",
        "ResourceName": resource,
        "DeviceIDs": device_ids,
        "AllocResp": answer,
    }
    return json.dumps({"Data": {"PodDeviceEntries": [entry], "RegisteredDevices": {}}, "Checksum": 1}).encode()


def test_device_ids_stand_by_numa_node_and_formerly_in_a_list() -> None:
    expected = [Held("uid-1", "main", "slot-042")]
    assert parse(file({"-1": ["slot-042"]})) == expected
    assert parse(file(["slot-042"])) == expected


def test_the_recorded_answer_names_the_cdi_device() -> None:
    answer = api_pb2.ContainerAllocateResponse(cdi_devices=[{"name": "tessera.io/slice=slot-042-ab"}])
    text = base64.b64encode(answer.SerializeToString()).decode()
    assert parse(file({"0": ["slot-042"]}, answer=text))[0].device == "slot-042-ab"


def test_other_plugins_devices_are_passed_over() -> None:
    assert parse(file({"-1": ["slot-042"]}, resource="nvidia.com/gpu")) == []
    assert parse(b'{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":0}') == []


def test_a_missing_file_is_none_and_a_broken_one_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "kubelet_internal_checkpoint"
    assert read(path) is None
    for data in (b"", b"{", b"[]", file({"-1": ["slot-042"]})[:-20], file({}, answer="***")):
        path.write_bytes(data)
        if data.endswith(b"1}"):
            assert read(path) == []
            continue
        with pytest.raises(CheckpointError, match=str(path)):
            read(path)
