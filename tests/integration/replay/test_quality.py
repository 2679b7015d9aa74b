"""The default policy fills a small cluster at least as well as the published one and as best fit, in the mean."""

from fractions import Fraction
from pathlib import Path
from statistics import mean

import pytest

from tessera.simulator.replay import drawing
from tessera.simulator.replay.generate import generate
from tessera.simulator.replay.plans import Plan, run
from tessera.simulator.replay.progress import Silent

POLICIES = ("fragmentation", "fgd", "pack")
SEEDS = (1, 2)
VARIANTS = ("fractions70", "modelbound25", "mixed")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Allocated percent at 100 % arrived by policy, mean of variants and seeds, on 60 nodes."""
    folder: Path = tmp_path_factory.mktemp("traces")
    nodes, *pods = generate(folder, drawing.hosts(60, 2), drawing.pod, 5, 2)
    pods = [path for path in pods if path.stem in VARIANTS]
    runs = run(Plan(nodes, tuple(pods), POLICIES, SEEDS, inflate=Fraction(102, 100)), Silent())
    found = {name: [r.allocated_percent["100"] or 0.0 for r in runs if r.policy == name] for name in POLICIES}
    assert {len(each) for each in found.values()} == {len(VARIANTS) * len(SEEDS)}
    return {name: mean(each) for name, each in found.items()}


@pytest.mark.parametrize("other", ["fgd", "pack"])
def test_fragmentation_fills_at_least_as_well(filled: dict[str, float], other: str) -> None:
    assert filled["fragmentation"] >= filled[other], filled
