"""What the node is said to have."""

from dataclasses import replace

from tessera.device_plugin.capacity import differs, wanted
from tessera.device_plugin.inventory import Inventory, LocalGpu, conflict_of, taken_by
from tessera.model.gpus import LEVEL_NONE, Gpu, Health
from tessera.model.pods import ContainerSpec, Pod

GIB = 1 << 30
GPU = Gpu("GPU-a", "L4", 22 * GIB, 23 * GIB)
OTHER = replace(GPU, uuid="GPU-b")


def asking(mem: str, phase: str = "Running") -> Pod:
    limits = {"tessera.io/gpu-mem": mem, "tessera.io/slice": "1"}
    return Pod("ns", "p", "u", (ContainerSpec("c", "spec.containers[0]", limits=limits),), phase=phase)


def test_the_installed_size_counts_sick_gpus_too() -> None:
    sick = replace(OTHER, health=Health(False, "Xid 79"))
    assert wanted([GPU, sick], []) == {
        "tessera.io/gpu-mem": str(44 * GIB),
        "tessera.io/gpu-core": "200",
        "tessera.io/gpu": "2",
    }


def test_mig_devices_and_gpus_that_have_nothing_to_give_count_among_whole_units_only() -> None:
    mig, empty = replace(GPU, uuid="MIG-a", level=LEVEL_NONE), replace(OTHER, mem_bytes=0, level=LEVEL_NONE)
    unseen = replace(OTHER, level=LEVEL_NONE)
    mem, core, units = "tessera.io/gpu-mem", "tessera.io/gpu-core", "tessera.io/gpu"
    assert wanted([GPU, mig, empty], []) == {mem: str(22 * GIB), core: "100", units: "3"}
    assert wanted([mig], []) == {mem: "0", core: "0", units: "1"}
    assert wanted([GPU, unseen], [])[mem] == str(44 * GIB), "its level may rise again"


def test_capacity_never_falls_below_what_living_pods_ask() -> None:
    assert wanted([GPU], [asking("20Gi"), asking("20Gi")])["tessera.io/gpu-mem"] == str(40 * GIB)
    assert wanted([GPU], [asking("20Gi"), asking("20Gi", "Succeeded")])["tessera.io/gpu-mem"] == str(22 * GIB)


def test_a_node_without_gpus_carries_no_key_at_all() -> None:
    assert wanted([], [asking("1Gi")]) == {}


def test_the_same_figure_in_another_form_is_no_difference() -> None:
    want = {"tessera.io/gpu-mem": str(22 * GIB)}
    assert not differs(want, {"tessera.io/gpu-mem": "22Gi"}, {"tessera.io/gpu-mem": "23622320128"})
    assert differs(want, {"tessera.io/gpu-mem": "22Gi"}, {"tessera.io/gpu-mem": "0"})
    assert differs(want, {}, {"tessera.io/gpu-mem": "22Gi"})


def test_another_gpu_plugin_makes_every_gpu_unhealthy_until_it_goes() -> None:
    inventory = Inventory()
    inventory.update([LocalGpu(GPU, 0)])
    inventory.set_conflicts(conflict_of({"nvidia.com/gpu": "2", "cpu": "8"}), {})
    health = inventory.gpus["GPU-a"].health
    assert not health.healthy and health.reason.startswith("Conflict: found allocatable nvidia.com/gpu=2")
    inventory.set_conflicts(conflict_of({"nvidia.com/gpu": "0"}), {})
    assert inventory.gpus["GPU-a"].health.healthy


def test_a_gpu_that_a_dra_driver_offers_is_a_conflict_and_its_neighbour_is_not() -> None:
    """Attributes as NVIDIA's driver publishes them: a whole GPU by ``uuid``, a MIG device by ``parentUUID``."""
    mig = {"attributes": {"type": {"string": "mig"}, "parentUUID": {"string": "GPU-b"}}, "name": "gpu-1-mig-1g10gb-0"}
    old = {"basic": {"attributes": {"uuid": {"string": "GPU-a"}, "index": {"int": 0}}}, "name": "gpu-0"}
    inventory = Inventory()
    inventory.update([LocalGpu(GPU, 0), LocalGpu(OTHER, 1)])
    for device, uuid in ((mig, "GPU-b"), (old, "GPU-a")):
        made = {
            "metadata": {"name": "node-a-gpu.nvidia.com-x"},
            "spec": {"driver": "gpu.nvidia.com", "devices": [device]},
        }
        inventory.set_conflicts("", taken_by([made]))
        sick = {u: gpu.health.reason for u, gpu in inventory.gpus.items() if not gpu.health.healthy}
        assert sick == {
            uuid: f"Conflict: found device {device['name']} of DRA driver gpu.nvidia.com in ResourceSlice "
            "node-a-gpu.nvidia.com-x; allowed: no other driver for this GPU"
        }
    assert "MIG-a" in taken_by([{"spec": {"devices": [{"attributes": {"uuid": {"string": "MIG-a"}}}]}}])
    assert taken_by([{"metadata": {"name": "nics"}, "spec": {"driver": "nic.example.com"}}]) == {}
