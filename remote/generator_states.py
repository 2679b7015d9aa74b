"""The states of torch's generators."""

import struct

import torch

STATE_BYTES = 5056
"""Of the generator of a processor; a GPU's is shorter."""
_WORDS_LEFT, _WORDS = struct.Struct("=8xi4xQ"), 624


def own_generator(device: torch.device) -> torch.Generator:
    """The one that operators take where none is named."""
    if device.type != "cuda":
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[device.index or 0]


def put_state(generator: torch.Generator, state: torch.Tensor) -> None:
    """Raises ``RuntimeError`` for what is no state. Of a processor's generator torch takes any numbers up to 624 for
    how many of its words are left and which is the next, and then reads behind its words."""
    state = state.cpu().clone()
    if state.dtype is torch.uint8 and state.shape == (STATE_BYTES,):
        left, following = _WORDS_LEFT.unpack_from(bytes(state[:24].tolist()))
        if left + following > _WORDS + 1:
            raise RuntimeError(f"state: found {left} words left at word {following}; allowed: {_WORDS + 1} together")
    generator.set_state(state)
