"""What is told of a device."""

import os
import platform

import torch


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def facts_of(device: torch.device) -> dict[str, int]:
    """What WELCOME tells of the device; a CPU's memory is the machine's."""
    if device.type != "cuda":
        return {"total_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}
    found = torch.cuda.get_device_properties(device)
    capability = 10 * found.major + found.minor
    return {
        "total_bytes": found.total_memory, "capability": capability, "multiprocessors": found.multi_processor_count,
    }  # fmt: skip


def free_bytes(device: torch.device) -> int:
    """Of the device's memory, whoever has the rest."""
    if device.type != "cuda":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return int(torch.cuda.mem_get_info(device)[0])
