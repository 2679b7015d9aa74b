"""Whether a module can be one program: ``torch.export`` tells, without a tensor of the remote device.

Parameters and buffers are inputs of the graph like the arguments, so that none is taken for a constant. It is a copy of
the module that is looked at: what its ``forward`` assigns is no part of the module, which other threads may run.
"""

import contextlib
import logging
import operator
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export.graph_signature import OutputKind
from torch.utils._pytree import TreeSpec, tree_unflatten

from tessera.remote.client.tensor import DEVICE, RemoteTensor
from tessera.remote.client.trials import Attributes, copied
from tessera.remote.client.unfit import Unfit

_TRAINING = {"train", "training", "use_input_stats"}
_LONGEST = 300
_one = threading.Lock()
"""torch.export changes what all modules are called by, and changes it back: one at a time."""


class _Shell(torch.nn.Module):
    """Takes the module's tensors with the arguments. The module is no part of it: its own are not looked at."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._module = [module]

    def forward(self, state: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return torch.func.functional_call(self._module[0], state, args, kwargs)


def check(
    module: torch.nn.Module, names: Sequence[str], tensors: Sequence[Any], leaves: Sequence[Any], tree: TreeSpec
) -> None:
    """``tensors``: the module's own, called ``names``; ``leaves`` of the arguments, by ``tree``. Raises ``Unfit``."""
    with torch.inference_mode(False), torch.no_grad(), _one, _in_silence(), _constants_from_here():
        mode = FakeTensorMode()
        state = {name: _fake(tensor, mode) for name, tensor in zip(names, tensors, strict=True)}
        args, kwargs = tree_unflatten([_fake(leaf, mode) for leaf in leaves], tree)
        try:
            looked_at = copied(module)
            before = Attributes(looked_at)
            exported: Any = torch.export.export(_Shell(looked_at), (state, args, kwargs), strict=False)
        except Exception as error:
            raise Unfit(f"torch.export: {_in_a_line(error)}") from None
    if where := before.assigned():
        raise Unfit(f"it assigns to {where}")
    for node in exported.graph_module.graph.nodes:
        _check(node)
    for spec in exported.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise Unfit(f"it writes to {spec.target}")


@contextlib.contextmanager
def _constants_from_here() -> Iterator[None]:
    """A constant begins as a tensor of this machine, and one on the device is not computed with: its device has the
    name that programs see, and that of the stand-ins has not."""
    may_turn, lifted = FakeTensorMode.may_turn_const, torch._C._only_lift_cpu_tensors()

    def may(mode: FakeTensorMode, tensor: torch.Tensor) -> bool:
        return not isinstance(tensor, RemoteTensor) and bool(may_turn(mode, tensor))

    FakeTensorMode.may_turn_const = may
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)
        FakeTensorMode.may_turn_const = may_turn


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """What fails is told in one warning of our own."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _fake(value: Any, mode: FakeTensorMode) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return FakeTensor(mode, value._spec.meta(), torch.device(DEVICE, 0))


def _in_a_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_LONGEST]


def _check(node: Any) -> None:
    if node.op in ("placeholder", "output") or node.target is operator.getitem:
        return
    target = node.target
    if isinstance(target, torch._ops.HigherOrderOperator) or node.op == "get_attr":
        raise Unfit(f"found the higher-order operator of {target}")
    if not isinstance(target, torch._ops.OpOverload):
        raise Unfit(f"it computes {target} of numbers that depend on data")
    if _trains(node):
        raise Unfit(f"{target} is in training mode")


def _trains(node: Any) -> bool:
    named = {argument.name: value for argument, value in zip(node.target._schema.arguments, node.args, strict=False)}
    named.update(node.kwargs)
    return any(named.get(name) is True for name in _TRAINING)
