"""The generators of a session: its own, and those that the client made, by handle."""

from collections.abc import Iterable

import torch

from tessera.remote.generator_states import own_generator, put_state


class Generators:
    """On one device. 0 is the session's own, which operators take where none is named."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._made: dict[int, torch.Generator] = {}

    def __bool__(self) -> bool:
        """Whether the client made any."""
        return bool(self._made)

    def get(self, handle: int) -> torch.Generator | None:
        return self._made.get(handle)

    def start(self, handle: int, seed: int) -> None:
        """Makes one, or starts it anew."""
        if handle not in self._made:
            self._made[handle] = torch.Generator(self._device)
        self._made[handle].manual_seed(seed)

    def state(self, handle: int) -> torch.Tensor:
        """Raises ``KeyError``."""
        return self._find(handle).get_state()

    def restore(self, handle: int, state: torch.Tensor) -> None:
        """Raises ``KeyError``, and ``RuntimeError`` for what is no state."""
        put_state(self._find(handle), state)

    def states(self) -> list[tuple[int, bytes]]:
        """Of all of them, by handle."""
        return [(handle, bytes(self.state(handle).numpy())) for handle in (0, *self._made)]

    def drop(self, handles: Iterable[int]) -> None:
        for handle in handles:
            self._made.pop(handle, None)

    def _find(self, handle: int) -> torch.Generator:
        return self._made[handle] if handle else own_generator(self._device)
