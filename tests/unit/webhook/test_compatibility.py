"""Other projects' resource names in the contract's words."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.scheduler.webhook.compatibility import Dialect, translate

MEM, CORE, COUNT = "tessera.io/gpu-mem", "tessera.io/gpu-core", "tessera.io/gpu-count"
ALL = tuple(Dialect)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"nvidia.com/gpumem": 3000}, {MEM: "3000Mi"}),
        ({"nvidia.com/gpu": "1", "nvidia.com/gpumem": "1024"}, {MEM: "1Gi"}),
        (
            {"nvidia.com/gpu": 2, "nvidia.com/gpumem": 1024, "nvidia.com/gpucores": 30},
            {MEM: "2Gi", CORE: "60", COUNT: "2"},
        ),
        ({"nvidia.com/gpu": 2, "nvidia.com/gpumem-percentage": 50}, {CORE: "100", COUNT: "2"}),
        ({"nvidia.com/gpumem-percentage": 50, "nvidia.com/gpucores": 50}, {CORE: "50"}),
        ({"aliyun.com/gpu-mem": 3, "cpu": 1}, {MEM: "3Gi", "cpu": 1}),
        ({"aliyun.com/gpu-mem": 3, "aliyun.com/gpu-core.percentage": 20}, {MEM: "3Gi", CORE: "20"}),
        ({"nvidia.com/gpumem": 0}, {MEM: "0"}),
    ],
)
def test_what_can_be_said_is_translated(given: dict[str, Any], stored: dict[str, Any]) -> None:
    result, warnings = translate(given, ALL)
    assert result == stored and len(warnings) == 1 and " stored as " in warnings[0]
    assert translate(result, ALL) == (stored, [])


@pytest.mark.parametrize(
    "given",
    [
        {"nvidia.com/gpumem": "lots"},
        {"nvidia.com/gpumem": "0.5"},
        {"nvidia.com/gpumem": 100, "nvidia.com/gpumem-percentage": 50},
        {"nvidia.com/gpumem-percentage": 50, "nvidia.com/gpucores": 10},
        {"nvidia.com/gpucores": 10},
        {"aliyun.com/gpu-mem": "x"},
    ],
)
def test_what_cannot_be_said_stays_and_is_warned_of(given: dict[str, Any]) -> None:
    result, warnings = translate(given, ALL)
    assert result == given
    assert len(warnings) == 1 and "not translated: " in warnings[0]


@pytest.mark.parametrize("given", [{"nvidia.com/gpu": 1}, {"aliyun.com/gpu-count": 1}, {"gpu-mem": "4Gi"}])
def test_what_belongs_to_others_is_left_alone(given: dict[str, Any]) -> None:
    assert translate(given, ALL) == (given, [])
    assert translate({"nvidia.com/gpumem": 1}, ()) == ({"nvidia.com/gpumem": 1}, [])
