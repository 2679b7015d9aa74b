"""Our quantities against the Kubernetes client's own parser."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity as reference

from tessera.model.quantities import (
    QuantityError,
    format_bytes,
    parse_milli,
    parse_quantity,
    parse_up,
    parse_whole,
    round_down,
    round_up,
)

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
numbers = st.decimals(min_value=0, max_value=10**6, places=3, allow_nan=False, allow_infinity=False)


@given(numbers, st.sampled_from(SUFFIXES))
def test_agrees_with_the_kubernetes_client(number: Decimal, suffix: str) -> None:
    text = f"{number}{suffix}"
    ours = parse_quantity(text)
    theirs = Decimal(reference(text))
    assert abs(Decimal(ours.numerator) / Decimal(ours.denominator) - theirs) <= abs(theirs) * Decimal("1e-20")


@given(st.integers(min_value=0, max_value=2**62), st.sampled_from(["", "Ki", "Mi", "k", "M"]))
def test_whole_numbers_are_exact(number: int, suffix: str) -> None:
    assert (
        parse_whole(f"{number}{suffix}") == number * {"": 1, "Ki": 1024, "Mi": 1 << 20, "k": 1000, "M": 10**6}[suffix]
    )


@given(st.integers(min_value=0, max_value=2**60))
def test_formatting_is_exact_and_reads_back(value: int) -> None:
    assert parse_whole(format_bytes(value)) == value


@given(st.integers(min_value=0, max_value=2**50), st.integers(min_value=1, max_value=2**30))
def test_rounding_brackets_the_value(value: int, step: int) -> None:
    low, high = round_down(value, step), round_up(value, step)
    assert low <= value <= high
    assert low % step == high % step == 0
    assert high - low in (0, step)


@pytest.mark.parametrize(
    ("text", "value"),
    [("4Gi", 4 << 30), ("500M", 500_000_000), ("1.5Gi", 3 << 29), ("5e9", 5 * 10**9), ("1E3", 1000), (".5Ki", 512),
     ("1000m", 1), ("+2", 2), ("-1", -1), (4096, 4096), ("1E", 10**18)],
)  # fmt: skip
def test_known_values(text: str | int, value: int) -> None:
    assert parse_whole(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "4GB", "4 Gi", "0x10", "1e", "--1", "4gi", "1_000", "NaN", "inf", "٤Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["0.3Gi", "500m", "1.5", "1n"])
def test_fractions_are_no_whole_numbers(text: str) -> None:
    with pytest.raises(QuantityError, match="whole number"):
        parse_whole(text)


@given(numbers, st.sampled_from(SUFFIXES))
def test_rounding_up_to_units_and_thousandths_stays_within_one(number: Decimal, suffix: str) -> None:
    text = f"{number}{suffix}"
    value = parse_quantity(text)
    assert value <= parse_up(text) < value + 1
    assert 1000 * value <= parse_milli(text) < 1000 * value + 1
