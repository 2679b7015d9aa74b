"""The spec of one slice."""

import json

from tessera.device_plugin.agent import Hook, Mount, Prepared
from tessera.device_plugin.cdi import compose, merge, own_env, slice_info
from tessera.model.assignment import Share

DEVICE = "slot-000-" + "a" * 32
SHARES = (Share("GPU-a", 4 << 30, 30), Share("GPU-b", 2 << 30))


def edits(prepared: Prepared) -> dict:  # type: ignore[type-arg]
    spec = compose(DEVICE, SHARES, prepared, [], "/state/info")
    assert spec["kind"] == "tessera.io/slice"
    assert [device["name"] for device in spec["devices"]] == [DEVICE]
    return spec["devices"][0]["containerEdits"]  # type: ignore[no-any-return]


def test_without_nvidias_spec_the_gpus_are_named_and_no_node_is_given() -> None:
    found = edits(Prepared(0, {}, ()))
    assert "deviceNodes" not in found
    assert "NVIDIA_VISIBLE_DEVICES=GPU-a,GPU-b" in found["env"]


def test_the_container_sees_its_limits_in_the_order_of_its_gpus() -> None:
    env = own_env(DEVICE, SHARES, composed=False)
    assert env["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert env["TESSERA_MEM_LIMIT_BYTES"] == f"{4 << 30},{2 << 30}"
    assert env["TESSERA_CORE_LIMIT_PERCENT"] == "30,0"
    assert env["TESSERA_SLICE"] == DEVICE


def test_the_agent_cannot_rename_the_slice_but_adds_its_own_variables() -> None:
    env = edits(Prepared(1, {"CUDA_VISIBLE_DEVICES": "all", "CUDA_MPS_PIPE_DIRECTORY": "/p"}, ()))["env"]
    assert "CUDA_MPS_PIPE_DIRECTORY=/p" in env
    assert "CUDA_VISIBLE_DEVICES=all" not in env


def test_the_slices_own_facts_are_mounted_read_only() -> None:
    mounts = edits(Prepared(0, {}, (Mount("/pipes", "/pipes", ("rw", "bind")),)))["mounts"]
    assert [mount["containerPath"] for mount in mounts] == ["/pipes", "/run/tessera"]
    assert mounts[1]["hostPath"] == "/state/info" and "ro" in mounts[1]["options"]


def test_the_agents_hooks_run_before_the_container_does() -> None:
    found = edits(Prepared(3, {}, (), (Hook("/state/tessera-dmem", ("tessera-dmem", "/proc")),)))
    hook = {"hookName": "createRuntime", "path": "/state/tessera-dmem", "args": ["tessera-dmem", "/proc"], "timeout": 5}
    assert found["hooks"] == [hook]
    assert "hooks" not in edits(Prepared(0, {}, ()))


def test_the_agents_own_information_folder_takes_the_place_of_ours() -> None:
    mounts = edits(Prepared(0, {}, (Mount("/agent", "/run/tessera", ("ro",)),)))["mounts"]
    assert [mount["hostPath"] for mount in mounts] == ["/agent"]


def test_the_facts_are_what_was_given() -> None:
    assert json.loads(slice_info(SHARES)) == {
        "version": 1,
        "gpus": [
            {"uuid": "GPU-a", "mem_bytes": 4 << 30, "core_percent": 30},
            {"uuid": "GPU-b", "mem_bytes": 2 << 30, "core_percent": 0},
        ],
    }


def test_merging_keeps_one_node_a_path_and_the_last_value_of_a_variable() -> None:
    merged = merge(
        [
            {"deviceNodes": [{"path": "/dev/a"}], "env": ["A=1", "B=1"], "additionalGids": [1, 2]},
            {"deviceNodes": [{"path": "/dev/a"}, {"path": "/dev/b"}], "env": ["A=2"], "additionalGids": [2, 3]},
        ]
    )
    assert merged["deviceNodes"] == [{"path": "/dev/a"}, {"path": "/dev/b"}]
    assert sorted(merged["env"]) == ["A=2", "B=1"]
    assert merged["additionalGids"] == [1, 2, 3]
