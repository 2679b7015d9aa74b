"""A client's program, ready to run: its calls with the handles of one run."""

from collections.abc import Iterator, Mapping

from tessera.remote.protocol import programs, records


class Program:
    """``layouts``: those of the session, which knows each that the program names."""

    def __init__(self, program: programs.Program, layouts: Mapping[int, records.Layout]) -> None:
        outputs = [len(layouts[node.layout].outputs) for node in program.nodes]
        self._inputs = program.inputs
        self._steps = list(zip(program.nodes, outputs, programs.last_uses(program, outputs), strict=True))

    def calls(self, run: programs.Run) -> Iterator[tuple[records.Call, list[int]]]:
        """Each call, and the handles to be freed after it."""
        inputs, made_from, first = run.inputs, run.first - self._inputs, run.first
        for node, outputs, freed in self._steps:
            tensors = tuple([inputs[one] if one < self._inputs else made_from + one for one in node.tensors])
            yield records.Call(node.form, node.layout, first, tensors, node.floats), [run.first + one for one in freed]
            first += outputs
