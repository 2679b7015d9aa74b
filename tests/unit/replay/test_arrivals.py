"""Arrivals: shuffled and topped up by one seed; churn at the load that was asked for."""

from collections import Counter
from fractions import Fraction

import pytest

from tessera.simulator.replay.arrivals import inflated, poisson
from tessera.simulator.replay.openb import Shape, Trace

WHOLE, HALF, NONE = Shape(1000, 1024, 1, 1000), Shape(1000, 1024, 1, 500), Shape(1000, 1024, 0, 0)
TRACE = Trace("t", (WHOLE,) * 6 + (HALF,) * 4 + (NONE,) * 5)


def asked(pods: list[Shape]) -> int:
    return sum(pod.milli for pod in pods)


def test_a_short_list_is_topped_up_to_the_factor_and_keeps_all_its_pods() -> None:
    pods = inflated(TRACE, 10_000, Fraction(13, 10), seed=1)
    assert 12_000 < asked(pods) <= 13_000
    assert not Counter(TRACE.shapes) - Counter(pods[: len(TRACE.shapes)])


def test_a_long_list_is_cut_down_to_the_factor() -> None:
    pods = inflated(TRACE, 2_000, Fraction(13, 10), seed=1)
    assert 1_600 < asked(pods) <= 2_600
    assert not Counter(pods) - Counter(TRACE.shapes)


def test_the_seed_decides_and_nothing_else() -> None:
    first, same, other = (inflated(TRACE, 10_000, Fraction(13, 10), seed) for seed in (1, 1, 2))
    assert first == same != other


def test_churn_offers_the_load_that_was_asked_for() -> None:
    arrivals = list(poisson(TRACE.shapes, 50_000, Fraction(94, 100), 40_000, seed=3))
    offered = sum(arrival.shape.milli * arrival.life for arrival in arrivals) / arrivals[-1].at
    assert offered / 50_000 == pytest.approx(0.94, rel=0.03)
    assert [a.at for a in arrivals] == sorted(a.at for a in arrivals)
    assert arrivals == list(poisson(TRACE.shapes, 50_000, Fraction(94, 100), 40_000, seed=3))
