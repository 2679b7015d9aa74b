"""Real GPU models for simulated hosts: names as NVML gives them, memory, SMs and cores as NVIDIA publishes them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tessera.simulator.fakes.nvml.state import FakeGpu, FakeMig

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Preset:
    """A GPU model. Memory is NVML's total and reserve, in MiB."""

    name: str
    total_mib: int
    reserved_mib: int
    sms: int
    cores_per_sm: int
    compute_capability: str
    nvlink: bool = False
    mig_capable: bool = False


PRESETS = {
    "H200": Preset("NVIDIA H200", 143771, 626, 132, 128, "9.0", nvlink=True, mig_capable=True),
    "H100": Preset("NVIDIA H100 80GB HBM3", 81559, 626, 132, 128, "9.0", nvlink=True, mig_capable=True),
    "A100": Preset("NVIDIA A100-SXM4-40GB", 40960, 502, 108, 64, "8.0", nvlink=True, mig_capable=True),
    "L40S": Preset("NVIDIA L40S", 46068, 614, 142, 128, "8.9"),
    "L4": Preset("NVIDIA L4", 23034, 494, 58, 128, "8.9"),
    "T4": Preset("Tesla T4", 15360, 449, 40, 64, "7.5"),
}

MIG_PROFILES = {"1g.10gb": (9984, 16), "2g.20gb": (20096, 32), "3g.40gb": (40448, 60)}
"""Of an H100 with 80 GB: memory in MiB and multiprocessors, as ``nvidia-smi mig -lgip`` lists them."""
_MIG_RESERVED = 13 * MIB


def mig_devices(parent: FakeGpu, profiles: Sequence[str]) -> list[FakeMig]:
    """MIG devices of these profiles on ``parent``; their UUIDs follow from it and the instances."""
    return [_mig(parent, slot, profile) for slot, profile in enumerate(profiles)]


def _mig(parent: FakeGpu, slot: int, profile: str) -> FakeMig:
    total_mib, sms = MIG_PROFILES[profile]
    made = uuid.uuid5(uuid.NAMESPACE_DNS, f"{parent.uuid}.{profile}.{slot}")
    name = f"{parent.name} MIG {profile}"
    return FakeMig(f"MIG-{made}", parent.uuid, slot, slot + 7, 0, name, total_mib * MIB, _MIG_RESERVED, sms)


def gpu(model: str, index: int = 0, *, host: str = "host", numa_node: int = 0) -> FakeGpu:
    """A GPU of a model in ``PRESETS``. Its UUID follows from host and index, so a run can be repeated."""
    preset = PRESETS[model]
    return FakeGpu(
        uuid=f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host}.{index}')}",
        index=index,
        name=preset.name,
        total_bytes=preset.total_mib * MIB,
        reserved_bytes=preset.reserved_mib * MIB,
        cores=preset.sms * preset.cores_per_sm,
        sms=preset.sms,
        compute_capability=preset.compute_capability,
        numa_node=numa_node,
        pci=f"00000000:{0x17 + index:02X}:00.0",
        mig_capable=preset.mig_capable,
    )


def host_gpus(models: Sequence[str], *, host: str = "host") -> list[FakeGpu]:
    """The GPUs of one host, in order; halves lie on two NUMA nodes; equal models with NVLink are all linked."""
    made = [gpu(model, i, host=host, numa_node=int(2 * i >= len(models) > 1)) for i, model in enumerate(models)]
    return [_linked(one, made) if PRESETS[model].nvlink else one for one, model in zip(made, models, strict=True)]


def _linked(one: FakeGpu, others: list[FakeGpu]) -> FakeGpu:
    peers = tuple(other.uuid for other in others if other.uuid != one.uuid and other.name == one.name)
    return replace(one, nvlink_peers=peers)
