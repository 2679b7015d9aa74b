"""A module's parameters and buffers, found again at each call: they may be other ones by then."""

from typing import Any

import torch
from torch.nn.modules import module as of_all

Place = tuple[dict[str, Any], str]


class State:
    """``names`` of parameters and buffers, each tensor once."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.names: list[str] = []
        self._places: list[Place] = []
        self._same: list[tuple[Place, Place]] = []
        self._absent: list[Place] = []
        self._sizes: list[tuple[dict[str, Any], int]] = []
        self._children: list[tuple[Place, Any]] = []
        self._modules = [part for _, part in module.named_modules()]
        self._hooks = [of_all._global_forward_pre_hooks, of_all._global_forward_hooks]
        for part in self._modules:
            self._hooks += [part._forward_pre_hooks, part._forward_hooks]
        seen: dict[int, Place] = {}
        for prefix, part in module.named_modules():
            self._children += [((part._modules, name), child) for name, child in part._modules.items()]
            self._sizes.append((part._modules, len(part._modules)))
            for places in (part._parameters, part._buffers):
                self._sizes.append((places, len(places)))
                for name in places:
                    self._add(f"{prefix}.{name}" if prefix else name, (places, name), seen)

    def _add(self, name: str, place: Place, seen: dict[int, Place]) -> None:
        tensor = place[0][place[1]]
        if tensor is None:
            self._absent.append(place)
        elif id(tensor) in seen:
            self._same.append((place, seen[id(tensor)]))
        else:
            seen[id(tensor)] = place
            self.names.append(name)
            self._places.append(place)

    def holds(self) -> bool:
        """Whether the module still has these parts, and the same of them are one."""
        return (
            all(len(places) == count for places, count in self._sizes)
            and all(places.get(name) is child for (places, name), child in self._children)
            and all(places.get(name) is None for places, name in self._absent)
            and all(places.get(name) is others.get(other) for (places, name), (others, other) in self._same)
            and all(places.get(name) is not None for places, name in self._places)
        )

    def tensors(self) -> list[Any]:
        """As they are now."""
        return [places[name] for places, name in self._places]

    def hooked(self) -> bool:
        """Whether a part calls something of the program before or after its own forward pass."""
        return any(self._hooks)

    def training(self) -> tuple[bool, ...]:
        """Of each part."""
        return tuple([part.training for part in self._modules])
