"""NVIDIA's CDI files: several layouts, and files that are broken."""

from pathlib import Path

import pytest

from tessera.device_plugin.agent import Prepared
from tessera.device_plugin.cdi import compose
from tessera.device_plugin.nvidia import CdiError, edits_for, load, minors, parse
from tessera.model.assignment import Share

HERE = Path(__file__).parent / "cdi"
GPU_A = "GPU-3f6ad2c1-8c11-4d6f-9f52-0a4c6f9be001"
GPU_B = "GPU-9b1e0d77-52aa-4e0b-8d0f-7d3b51c2e002"
INDEX = {GPU_A: 0, GPU_B: 1}
TWO_GPUS = ["driver-535-index.yaml", "driver-550-index-uuid.yaml", "driver-580-uuid.json", "driver-615-index.yaml"]
KIND_LAST = ["driver-535-index.yaml", "driver-550-index-uuid.yaml", "wsl-all.yaml"]
MOUNTS_LAST = ["driver-615-index.yaml", "driver-root-mig.yaml"]


def composed(name: str, chosen: list[str], index: dict[str, int] = INDEX) -> dict:  # type: ignore[type-arg]
    spec = parse(name, (HERE / name).read_bytes())
    assert spec is not None
    shares = [Share(uuid, 4 << 30, 30) for uuid in chosen]
    edits = edits_for([spec], index, chosen)
    return compose("slot-000-" + "a" * 32, shares, Prepared(0, {}, ()), edits, "/info")


def edits_of(spec: dict) -> dict:  # type: ignore[type-arg]
    return spec["devices"][0]["containerEdits"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", TWO_GPUS)
def test_one_gpu_brings_its_own_node_and_the_drivers_but_not_its_neighbours(name: str) -> None:
    nodes = [node["path"] for node in edits_of(composed(name, [GPU_B]))["deviceNodes"]]
    assert "/dev/nvidia1" in nodes and "/dev/nvidiactl" in nodes and "/dev/nvidia-uvm" in nodes
    assert "/dev/nvidia0" not in nodes and "/dev/dri/card1" not in nodes


@pytest.mark.parametrize("name", TWO_GPUS)
def test_two_gpus_bring_both_nodes_and_the_drivers_once(name: str) -> None:
    nodes = [node["path"] for node in edits_of(composed(name, [GPU_A, GPU_B]))["deviceNodes"]]
    assert {"/dev/nvidia0", "/dev/nvidia1"} <= set(nodes)
    assert len(nodes) == len(set(nodes))


@pytest.mark.parametrize("name", TWO_GPUS)
def test_our_environment_stands_last_and_once(name: str) -> None:
    env = edits_of(composed(name, [GPU_A]))["env"]
    values = dict(item.split("=", 1) for item in env)
    assert len(values) == len(env)
    assert values["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert values["CUDA_VISIBLE_DEVICES"] == GPU_A
    assert env[-1].startswith("TESSERA_")


@pytest.mark.parametrize("name", TWO_GPUS)
def test_hooks_keep_their_order_and_come_once_the_devices_before_the_drivers(name: str) -> None:
    spec = parse(name, (HERE / name).read_bytes())
    assert spec is not None
    hooks = edits_of(composed(name, [GPU_A, GPU_B]))["hooks"]
    assert hooks[-len(spec.edits["hooks"]) :] == spec.edits["hooks"]
    assert len({str(hook) for hook in hooks}) == len(hooks)


def test_a_driver_in_a_container_keeps_the_paths_of_its_host() -> None:
    edits = edits_of(composed("driver-root-mig.yaml", [GPU_A]))
    assert edits["deviceNodes"][0] == {"path": "/dev/nvidia0", "hostPath": "/run/nvidia/driver/dev/nvidia0"}
    assert all(node["hostPath"] == "/run/nvidia/driver" + node["path"] for node in edits["deviceNodes"])
    assert edits["mounts"][0]["hostPath"] == "/run/nvidia/driver" + edits["mounts"][0]["containerPath"]


@pytest.mark.parametrize("index", [INDEX, {GPU_B: 1}], ids=["beside another", "alone"])
def test_a_gpu_in_mig_mode_is_in_no_file_as_a_whole(index: dict[str, int]) -> None:
    with pytest.raises(CdiError, match=r"found devices \['0', '1:0', '1:1', 'all'\]; allowed: one named GPU-9b1e"):
        composed("driver-root-mig.yaml", [GPU_B], index)


MIG = "MIG-0a1b5d30-7f2e-5c47-8a57-3a1c9d1f4e11"


def mig_spec(name: str):  # type: ignore[no-untyped-def]
    """The file with one of the two MIG devices under ``name``."""
    text = (HERE / "driver-root-mig.yaml").read_text().replace('"1:1"', f'"{name}"')
    return parse("driver-root-mig.yaml", text.encode())


def test_a_mig_device_brings_its_gpus_node_and_its_own_capabilities() -> None:
    edits = edits_for([mig_spec(MIG)], {GPU_A: 0, MIG: 1}, [MIG], {GPU_A: 0, GPU_B: 1})
    spec = compose("slot-000-" + "a" * 32, [Share(MIG, 9 << 30, 100, True)], Prepared(0, {}, ()), edits, "/info")
    nodes = [node["path"] for node in edits_of(spec)["deviceNodes"]]
    caps = [f"/dev/nvidia-caps/nvidia-cap{number}" for number in (21, 22)]
    assert nodes[:3] == ["/dev/nvidia1", *caps] and "/dev/nvidia0" not in nodes
    assert not [node for node in nodes if "nvidia-caps" in node and node not in caps]
    assert f"CUDA_VISIBLE_DEVICES={MIG}" in edits_of(spec)["env"]


@pytest.mark.parametrize("gpus", [{MIG: 1}, {GPU_A: 0, MIG: 1}], ids=["alone", "beside another"])
@pytest.mark.parametrize("name", ["1", "gpu1", "1:1", "all"])
def test_a_mig_device_is_taken_by_its_uuid_only(gpus: dict[str, int], name: str) -> None:
    with pytest.raises(CdiError, match=f"allowed: one named {MIG} for GPU {MIG}"):
        edits_for([mig_spec(name)], gpus, [MIG])


def test_the_only_device_of_wsl_stands_for_no_mig_device() -> None:
    spec = parse("wsl-all.yaml", (HERE / "wsl-all.yaml").read_bytes())
    assert spec is not None
    with pytest.raises(CdiError, match=f"allowed: one named {MIG}"):
        edits_for([spec], {MIG: 0}, [MIG])


def test_the_spec_is_of_nvidias_version_so_that_its_edits_stay_valid() -> None:
    spec = composed("driver-580-uuid.json", [GPU_A, GPU_B])
    assert spec["cdiVersion"] == "0.7.0"
    assert edits_of(spec)["additionalGids"] == [44, 992]
    assert composed("wsl-all.yaml", [GPU_A], {GPU_A: 0})["cdiVersion"] == "0.5.0"


def test_wsl_has_one_device_which_stands_for_the_only_gpu() -> None:
    assert edits_of(composed("wsl-all.yaml", [GPU_A], {GPU_A: 0}))["deviceNodes"] == [{"path": "/dev/dxg"}]


def test_wsl_with_two_gpus_is_refused_since_all_would_be_both() -> None:
    with pytest.raises(CdiError, match=r"wsl-all.yaml: found devices \['all'\]; allowed: one named GPU-9b1e"):
        composed("wsl-all.yaml", [GPU_B])


def test_a_gpu_that_is_in_no_file_is_refused() -> None:
    with pytest.raises(CdiError, match="for GPU GPU-new"):
        composed("driver-535-index.yaml", ["GPU-new"], {**INDEX, "GPU-new": 2})


@pytest.mark.parametrize("name", [*KIND_LAST, *MOUNTS_LAST, "driver-580-uuid.json"])
def test_a_file_cut_off_inside_a_line_never_passes(name: str) -> None:
    data = (HERE / name).read_bytes()
    for end in range(1, len(data), max(1, len(data) // 150)):
        if data[end - 1 : end] != b"\n":
            with pytest.raises(CdiError, match=f"{name}: "):
                parse(name, data[:end])


@pytest.mark.parametrize("name", KIND_LAST)
def test_a_file_cut_off_at_a_line_never_passes(name: str) -> None:
    lines = (HERE / name).read_bytes().splitlines(keepends=True)
    for end in range(1, len(lines)):
        with pytest.raises(CdiError, match=f"{name}: "):
            parse(name, b"".join(lines[:end]))


@pytest.mark.parametrize("name", MOUNTS_LAST)
def test_a_file_that_ends_with_its_mounts_and_was_cut_off_lacks_some_of_them_at_most(name: str) -> None:
    """Between two mounts no reader can tell; before the driver's library, or within a mount, it is refused."""
    lines = (HERE / name).read_bytes().splitlines(keepends=True)
    whole = parse(name, b"".join(lines))
    assert whole is not None
    passed = []
    for end in range(1, len(lines)):
        try:
            spec = parse(name, b"".join(lines[:end]))
        except CdiError:
            continue
        assert spec is not None
        passed.append(end)
        assert spec.devices == whole.devices
        assert all(spec.edits[key] == whole.edits[key] for key in whole.edits if key != "mounts")
        found, wanted = spec.edits["mounts"], whole.edits["mounts"]
        assert found[:-1] == wanted[: len(found) - 1]
        assert found[-1]["hostPath"] == wanted[len(found) - 1]["hostPath"] and "rbind" in found[-1]["options"]
        assert any("libcuda.so" in mount["containerPath"] for mount in found)
    assert min(passed) > len(lines) // 2


def test_an_index_that_now_means_another_gpu_is_refused() -> None:
    """GPU A is lost, NVML counts anew, and the file still calls A's node ``0``."""
    spec = parse("nvidia.yaml", (HERE / "driver-615-index.yaml").read_bytes())
    assert spec is not None
    with pytest.raises(CdiError, match=f"'0' with /dev/nvidia0; allowed: /dev/nvidia1, the node of GPU {GPU_B}"):
        edits_for([spec], {GPU_B: 0}, [GPU_B], {GPU_B: 1})
    assert edits_for([spec], {GPU_A: 0, GPU_B: 1}, [GPU_B], {GPU_A: 0, GPU_B: 1})
    assert edits_for([spec], {GPU_A: 0, GPU_B: 1}, [GPU_B], {}), "a driver that tells no numbers"


def test_the_kernel_tells_each_gpus_node(tmp_path: Path) -> None:
    for bus, uuid, minor in (("0000:3b:00.0", GPU_A, 1), ("0000:86:00.0", GPU_B, 0)):
        folder = tmp_path / "driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        lines = ("Model: \t\t NVIDIA H100", "IRQ:   \t\t 36", f"GPU UUID: \t {uuid}", f"Device Minor: \t {minor}")
        (folder / "information").write_text("\n".join([*lines, "GPU Excluded:\t No", ""]))
    assert minors(tmp_path) == {GPU_A: 1, GPU_B: 0}
    assert minors(tmp_path / "missing") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "kind"),
        (b"[]\n", "kind"),
        (b"kind: nvidia.com/gpu\n", "cdiVersion"),
        (b"kind: nvidia.com/gpu\ncdiVersion: 0.5.0\n", "devices"),
        (b"kind: nvidia.com/gpu\ncdiVersion: 0.5.0\ndevices: [{name: '0'}]\n", "containerEdits"),
        (b"kind: nvidia.com/gpu\ncdiVersion: 0.5.0\ndevices: [{}]\ncontainerEdits: {env: [A=1]}\n", "name"),
        (b"kind: nvidia.com/gpu\ncdiVersion: 0.5.0\ndevices: [{name: a}]\ncontainerEdits: {env: [A]}\n", "env"),
        (b"kind: nvidia.com/gpu\ncdiVersion: 0.5.0\ndevices: [{name: a}]\ncontainerEdits: {mounts: [{}]}\n", "mounts"),
        (b"{\xff\xfe\n", "malformed"),
        (b"a: [\n", "malformed"),
    ],
)
def test_a_malformed_file_is_named_with_its_field(text: bytes, says: str) -> None:
    with pytest.raises(CdiError, match=f"/etc/cdi/nvidia.yaml: .*{says}|/etc/cdi/nvidia.yaml: .*found no end"):
        parse("/etc/cdi/nvidia.yaml", text)


def test_the_later_folder_outranks_the_earlier(tmp_path: Path) -> None:
    etc, run = tmp_path / "etc", tmp_path / "run"
    for folder, name in ((etc, "driver-535-index.yaml"), (run, "driver-550-index-uuid.yaml")):
        folder.mkdir()
        (folder / "nvidia.yaml").write_bytes((HERE / name).read_bytes())
    assert [spec.path for spec in load([etc, run])] == [str(run / "nvidia.yaml"), str(etc / "nvidia.yaml")]


def test_a_broken_file_of_somebody_else_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "vendor.json").write_text("{")
    (tmp_path / "nvidia.yaml").write_bytes((HERE / "driver-535-index.yaml").read_bytes())
    assert len(load([tmp_path, tmp_path / "missing"])) == 1


def test_a_broken_file_of_nvidias_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "nvidia.yaml").write_bytes((HERE / "driver-535-index.yaml").read_bytes()[:-100])
    with pytest.raises(CdiError, match=str(tmp_path / "nvidia.yaml")):
        load([tmp_path])
