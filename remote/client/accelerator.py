"""``torch.accelerator``: what torch asks of a device's C++ part, which a device of Python's has not."""

from typing import Any

import torch

from tessera.remote.client.module import RemoteModule


def install(module: RemoteModule) -> None:
    """For the life of the process."""
    accelerator: Any = torch.accelerator
    accelerator.synchronize = module.synchronize
    accelerator.get_memory_info = module.mem_get_info
    accelerator.memory_allocated = accelerator.memory_reserved = module.memory_allocated
    accelerator.max_memory_allocated = accelerator.max_memory_reserved = module.max_memory_allocated
    accelerator.empty_cache = lambda: None
    accelerator.reset_peak_memory_stats = accelerator.reset_accumulated_memory_stats = lambda device=None: None
