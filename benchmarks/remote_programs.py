"""What the benchmark of the remote device runs, on tensors so small that a processor mostly dispatches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], Any]
WIDTH, HEADS, WORDS, BLOCKS = 32, 4, 8, 6


class Program(NamedTuple):
    """``make`` answers a step for a device; one of training gives its loss."""

    name: str
    training: bool
    make: Callable[[str], Step]


class Block(torch.nn.Module):
    """Of a transformer, as GPT-2 has it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.mixed, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, words, width = x.shape
        query, key, value = (
            part.view(batch, words, HEADS, width // HEADS).transpose(1, 2)
            for part in self.mixed(self.before(x)).split(width, 2)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, words, width))
        return x + self.narrow(functional.gelu(self.wide(self.after(x))))


def _transformer(device: str) -> tuple[torch.nn.Module, torch.Tensor]:
    return torch.nn.Sequential(*(Block() for _ in range(BLOCKS))).to(device), torch.zeros(
        2, WORDS, WIDTH, device=device
    )


def _mlp(device: str) -> tuple[torch.nn.Module, torch.Tensor]:
    layers = [layer for _ in range(4) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers).to(device), torch.zeros(4, WIDTH, device=device)


def _chain(device: str) -> Step:
    x, y = (torch.zeros(8, 8, device=device) for _ in range(2))

    def step() -> None:
        with torch.no_grad():
            z = x
            for _ in range(100):
                z = torch.mm(((z + y) * y).relu(), y)

    return step


def _forward(device: str) -> Step:
    model, x = _transformer(device)

    def step() -> None:
        with torch.no_grad():
            model(x)

    return step


def _training(made: tuple[torch.nn.Module, torch.Tensor], kind: type[torch.optim.Optimizer]) -> Step:
    model, x = made
    optimizer = kind(model.parameters(), lr=1e-3, foreach=True)  # as is usual on a GPU

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


PROGRAMS = (
    Program("add, mul, relu, mm", False, _chain),
    Program("transformer, forward", False, _forward),
    Program("transformer, AdamW", True, lambda device: _training(_transformer(device), torch.optim.AdamW)),
    Program("mlp, SGD", True, lambda device: _training(_mlp(device), torch.optim.SGD)),
)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        return function(*args, **(kwargs or {}))


def operators(step: Step) -> int:
    """How many torch runs for one step on this processor, views too, once an optimizer has made its state."""
    step()
    with _Counter() as counter:
        step()
    found: int = counter.operators
    return found


FORWARDS = {"transformer": _transformer, "mlp": _mlp}
"""Modules with what they are called with, on a device."""
