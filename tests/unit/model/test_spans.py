"""Which GPUs hold one slice together, and at what level."""

import pytest

from tessera.model.gpus import Gpu
from tessera.model.spans import level_over, spans


def gpus(*found: tuple[int, str]) -> list[Gpu]:
    return [Gpu(f"GPU-{i}", "L4", 24, 24, level=level, mps_group=group) for i, (level, group) in enumerate(found)]


@pytest.mark.parametrize(
    ("found", "expected", "level"),
    [
        ([(1, "g"), (1, "g")], [0, 0], 1),
        ([(1, "g"), (1, "h")], [0, 1], 0),
        ([(1, ""), (1, "")], [0, 1], 0),
        ([(2, "g"), (2, "g")], [0, 1], 0),
        ([(1, "g"), (2, "g")], [0, 1], 0),
        ([(3, ""), (3, "")], [0, 0], 3),
        ([(0, "g"), (0, "h")], [0, 0], 0),
        ([(1, "g"), (0, "g")], [0, 1], 0),
        ([(1, "g"), (-1, "g")], [0, 1], -1),
        ([(0, ""), (1, "g"), (0, ""), (1, "g")], [0, 1, 0, 1], 0),
    ],
)
def test_a_slice_is_held_over_gpus_of_one_limiter(found, expected, level):
    assert (spans(gpus(*found)), level_over(gpus(*found))) == (expected, level)


@pytest.mark.parametrize("level", [-1, 0, 1, 2, 3])
def test_one_gpu_is_a_span(level):
    assert level_over(gpus((level, "g"))) == level
