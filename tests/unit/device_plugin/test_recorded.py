"""Files that NVIDIA's own tool wrote, for several layouts of the driver."""

from pathlib import Path
from typing import Any

import pytest

from tessera.device_plugin.agent import Prepared
from tessera.device_plugin.cdi import compose
from tessera.device_plugin.nvidia import CdiError, edits_for, parse
from tessera.model.assignment import Share

RECORDED = Path(__file__).parent / "cdi" / "recorded"
H100, L4 = "GPU-61f12931-adda-5983-90b6-7fc4707324d4", "GPU-4e650a97-0413-5b28-ac47-903d2c7f8de3"
INDEX = {H100: 0, L4: 1}
FILES = ["debian-580-index-uuid.yaml", "rhel-535-uuid.json", "driver-container-580-index.yaml"]


def composed(name: str, chosen: list[str]) -> dict[str, Any]:
    spec = parse(name, (RECORDED / name).read_bytes())
    assert spec is not None
    edits = edits_for([spec], INDEX, chosen)
    shares = [Share(uuid, 4 << 30, 30) for uuid in chosen]
    made: dict[str, Any] = compose("slot-000-" + "a" * 32, shares, Prepared(0, {}, ()), edits, "/info")
    found: dict[str, Any] = made["devices"][0]["containerEdits"]
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("uuid", "own", "other"), [(H100, "nvidia0", "nvidia1"), (L4, "nvidia1", "nvidia0")])
def test_a_gpu_brings_its_node_and_the_whole_driver_but_not_its_neighbour(
    name: str, uuid: str, own: str, other: str
) -> None:
    edits = composed(name, [uuid])
    nodes = {node["path"] for node in edits["deviceNodes"]}
    assert {f"/dev/{own}", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= nodes
    assert f"/dev/{other}" not in nodes
    mounts = [mount["containerPath"] for mount in edits["mounts"]]
    assert any("libcuda.so." in path for path in mounts) and any("libnvidia-ml.so." in path for path in mounts)
    assert any("update-ldcache" in hook["args"] for hook in edits["hooks"])
    assert f"CUDA_VISIBLE_DEVICES={uuid}" in edits["env"] and "NVIDIA_VISIBLE_DEVICES=void" in edits["env"]


@pytest.mark.parametrize("name", FILES)
def test_two_gpus_bring_both_nodes_once(name: str) -> None:
    nodes = [node["path"] for node in composed(name, [H100, L4])["deviceNodes"]]
    assert {"/dev/nvidia0", "/dev/nvidia1"} <= set(nodes) and len(nodes) == len(set(nodes))


def test_a_driver_in_a_container_keeps_its_root() -> None:
    edits = composed("driver-container-580-index.yaml", [H100])
    drivers = [mount["hostPath"] for mount in edits["mounts"] if mount["containerPath"] != "/run/tessera"]
    assert drivers and all(path.startswith("/run/nvidia/driver/") for path in drivers)


@pytest.mark.parametrize("name", FILES)
def test_a_recording_cut_in_its_devices_is_refused_by_name(name: str) -> None:
    whole = (RECORDED / name).read_bytes()
    with pytest.raises(CdiError, match=name.replace(".", r"\.")):
        parse(name, whole[: len(whole) // 8])
