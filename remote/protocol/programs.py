"""A program: calls that are sent once, as a PROGRAM record, and run together by each RUN. Pure.

Its values are the outputs of its calls, numbered from 0 in their order. A RUN gives value *n* the handle ``first + n``.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tessera.remote.protocol.errors import ProtocolError
from tessera.remote.protocol.values import Reader

MAX_NODES = MAX_VALUES = 1 << 16
MAX_PROGRAMS = 1 << 12
"""That a session knows at once; a number that is sent again means the newer."""
MAX_PROGRAM_BYTES = 16 << 20
"""On the wire, of all programs that a session knows."""


class Node(NamedTuple):
    """A call. ``tensors``: below the number of inputs the input, from there on the value of a call before this one."""

    form: int
    layout: int
    tensors: tuple[int, ...]
    floats: tuple[float, ...]


class Program(NamedTuple):
    """``kept``: the values that stay after a run; each of the others is freed after the last call that takes it."""

    number: int
    inputs: int
    nodes: tuple[Node, ...]
    kept: tuple[int, ...]


class Forget(NamedTuple):
    """A program; one that is not known is no error."""

    number: int


class Run(NamedTuple):
    """``inputs``: handles."""

    program: int
    first: int
    inputs: tuple[int, ...]


Shape = Callable[[int, int], tuple[int, struct.Struct, int]]
"""Of a form and a layout that are known: how many tensors a call takes, its slots on the wire with four bytes for each
tensor, and how many outputs it has. Raises ``ProtocolError``."""

_HEAD, _NODE, _RUN = struct.Struct("<IIII"), struct.Struct("<II"), struct.Struct("<IQ")


def slots_struct(tensors: int, floats: int) -> struct.Struct:
    return struct.Struct(f"<{tensors}I{floats}d")


def put_program(program: Program, out: bytearray) -> None:
    """All but the code."""
    out += _HEAD.pack(program.number, program.inputs, len(program.nodes), len(program.kept))
    for node in program.nodes:
        out += _NODE.pack(node.form, node.layout)
        out += slots_struct(len(node.tensors), len(node.floats)).pack(*node.tensors, *node.floats)
    out += struct.pack(f"<{len(program.kept)}I", *program.kept)


def run_struct(inputs: int) -> struct.Struct:
    """A whole record: code, program, first value's handle, handles of the inputs."""
    return struct.Struct(f"<BIQ{inputs}Q")


def program(reader: Reader, shape: Shape) -> Program:
    """Raises ``ProtocolError``."""
    number, inputs, count, kept = reader.unpack(_HEAD)
    if count > MAX_NODES:
        raise ProtocolError(f"program: found {count} calls; allowed: up to {MAX_NODES}")
    nodes, values = list[Node](), 0
    for _ in range(count):
        node, outputs = _node(reader, shape, inputs + values)
        nodes.append(node)
        values += outputs
        if values > MAX_VALUES:
            raise ProtocolError(f"program: found {values} values; allowed: up to {MAX_VALUES}")
    stay = struct.unpack(f"<{kept}I", reader.take(4 * kept))
    if any(value >= values for value in stay):
        raise ProtocolError(f"program: found value {max(stay)} to be kept; allowed: below {values}")
    return Program(number, inputs, tuple(nodes), stay)


def _node(reader: Reader, shape: Shape, known: int) -> tuple[Node, int]:
    form, layout = reader.unpack(_NODE)
    tensors, slots, outputs = shape(form, layout)
    filled = reader.unpack(slots)
    taken = filled[:tensors]
    if any(one >= known for one in taken):
        raise ProtocolError(f"program: found a call that takes {max(taken)}; allowed: below {known}")
    return Node(form, layout, taken, filled[tensors:]), outputs


def run(reader: Reader, inputs_of: Callable[[int], int]) -> Run:
    """Raises ``ProtocolError``."""
    number, first = reader.unpack(_RUN)
    inputs = inputs_of(number)
    return Run(number, first, struct.unpack(f"<{inputs}Q", reader.take(8 * inputs)))


def last_uses(program: Program, outputs: Sequence[int]) -> list[tuple[int, ...]]:
    """The values to free after each call, of which ``outputs`` says how many it has."""
    last, value = dict[int, int](), 0
    for at, node in enumerate(program.nodes):
        last.update(dict.fromkeys(range(value, value + outputs[at]), at))
        value += outputs[at]
        last.update({taken - program.inputs: at for taken in node.tensors if taken >= program.inputs})
    freed: list[list[int]] = [[] for _ in program.nodes]
    for value in last.keys() - set(program.kept):
        freed[last[value]].append(value)
    return [tuple(sorted(values)) for values in freed]
