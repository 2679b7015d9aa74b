"""Kubernetes quantities in exact integers.

Syntax and suffixes as in k8s.io/apimachinery/pkg/api/resource (``4Gi``, ``500M``, ``1.5Gi``, ``5e9``, ``100m``).
"""

import math
import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

MIB = 1 << 20
GIB = 1 << 30

_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?\d{1,3}))?", re.ASCII)


class QuantityError(ValueError):
    """The text is no Kubernetes quantity, or no whole number where one is needed."""


@lru_cache(maxsize=4096)
def parse_quantity(text: str | int) -> Fraction:
    """The exact value of a quantity; raises ``QuantityError``."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise QuantityError(f"{text!r} is not a quantity such as 4Gi or 500M")
    sign, digits, binary, decimal, exponent = match.groups()
    value = Fraction(Decimal(digits))
    if binary:
        value *= 1 << _BINARY[binary]
    else:
        value *= Fraction(10) ** (int(exponent) if exponent else _DECIMAL[decimal or ""])
    return -value if sign == "-" else value


@lru_cache(maxsize=4096)
def parse_whole(text: str | int) -> int:
    """The value of a quantity that must be a whole number; raises ``QuantityError``."""
    value = parse_quantity(text)
    if value.denominator != 1:
        raise QuantityError(f"{text!r} is not a whole number")
    return value.numerator


@lru_cache(maxsize=4096)
def parse_up(text: str | int | float) -> int:
    """The value of a quantity, rounded up as ``Quantity.Value`` does; raises ``QuantityError``. Bytes of memory."""
    return math.ceil(parse_quantity(str(text)))


@lru_cache(maxsize=4096)
def parse_milli(text: str | int | float) -> int:
    """Thousandths of a quantity, rounded up as ``Quantity.MilliValue`` does; raises ``QuantityError``. CPU."""
    return math.ceil(1000 * parse_quantity(str(text)))


def round_up(value: int, step: int = MIB) -> int:
    """``value`` rounded up to a multiple of ``step``."""
    return -(-value // step) * step


def round_down(value: int, step: int = MIB) -> int:
    """``value`` rounded down to a multiple of ``step``."""
    return value // step * step


def format_bytes(value: int) -> str:
    """Bytes as the shortest exact binary quantity: ``4Gi``, ``1536Mi``, ``1000``."""
    for suffix, power in reversed(_BINARY.items()):
        if value and value % (1 << power) == 0:
            return f"{value >> power}{suffix}"
    return str(value)
