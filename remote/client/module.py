"""``torch.tessera``: what torch, and programs, ask of a device's module."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from tessera.remote.client.device import Device
from tessera.remote.client.generators import set_state, state_of


class RemoteModule:
    """One device; it is connected when something is asked that only the executor knows."""

    _initialized = True
    """Checkpointing asks, before it keeps the generator's state."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return self._device.connected

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Any) -> None:
        index = device if isinstance(device, int) else torch.device(device).index
        if index not in (None, 0, -1):
            raise RuntimeError(f"device: found index {index}; allowed: 0")

    def synchronize(self, device: Any = None) -> None:
        self._device.synchronize()

    def manual_seed(self, seed: int) -> None:
        self._device.seed(seed)

    manual_seed_all = manual_seed

    def seed(self) -> None:
        self.manual_seed(torch.Generator().seed())

    seed_all = seed

    def initial_seed(self) -> int:
        return self._device.seed_value

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return state_of(self._device, 0)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [self.get_rng_state()]

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        set_state(self._device, 0, state)

    def set_rng_state_all(self, states: Sequence[torch.Tensor]) -> None:
        self.set_rng_state(states[0])

    def _is_in_bad_fork(self) -> bool:
        return self._device.in_child

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def get_device_name(self, device: Any = None) -> str:
        return self._device.session.welcome.device

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes of the slice."""
        total = self.total_bytes
        return max(total - self._device.memory().used, 0), total

    @property
    def total_bytes(self) -> int:
        """Of the slice; where it has no limit, of the device."""
        welcome = self._device.session.welcome
        return welcome.limit_bytes or welcome.total_bytes

    def memory_allocated(self, device: Any = None) -> int:
        return self._device.memory().used

    def max_memory_allocated(self, device: Any = None) -> int:
        return self._device.memory().peak

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        """As the executor's device has it; (0, 0) where that is a CPU."""
        major, minor = divmod(self._device.session.welcome.capability, 10)
        return major, minor

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        """As ``torch.cuda`` names them; the cache's size is not told, and 0."""
        welcome, (major, minor) = self._device.session.welcome, self.get_device_capability()
        return SimpleNamespace(
            name=welcome.device, total_memory=self.total_bytes, major=major, minor=minor,
            multi_processor_count=max(1, welcome.multiprocessors), L2_cache_size=0,
        )  # fmt: skip
