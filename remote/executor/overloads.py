"""The operators that a session may call: a committed list of overloads, of which each is looked up once.

An overload that is not listed is refused by name. The list is positive: what reads memory by unchecked indices, opens
files or takes another process's memory is not on it. ``tessera.remote.operators`` adds those of our own.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from tessera.remote import operators
from tessera.remote.protocol.schemas import is_argument, is_view, schema_number

_LISTS = Path(__file__).parent / "allowed"


class RefusedOperator(Exception):
    """The client asks for what this executor does not run."""


@dataclass(frozen=True, slots=True)
class Overload:
    """``fresh``: for each value that it returns, whether it is a tensor of its own and not one that was passed in;
    ``view``: whether what it returns shares memory with what was passed in; ``resizes``: whether it may give a tensor
    that was passed in another size or another storage."""

    function: Any
    fresh: tuple[bool, ...]
    view: bool
    resizes: bool


def list_of(version: str) -> Path:
    """The file that lists the operators for a version of torch."""
    return _LISTS / f"{'.'.join(version.split('.')[:2])}.txt"


@lru_cache(maxsize=1)
def allowed() -> frozenset[str]:
    """The list of this torch's minor version. Raises ``RefusedOperator`` where there is none."""
    path = list_of(torch.__version__)
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in _LISTS.glob("*.txt")))
        raise RefusedOperator(f"torch: found {torch.__version__}; allowed: {known}")
    return operators.NAMES | frozenset(path.read_text().split())


def find(name: str, schema: int) -> Overload:
    """Raises ``RefusedOperator``."""
    if name not in allowed():
        raise RefusedOperator(
            f"operator: found {name!r}; allowed: what the executor lists for torch {torch.__version__}"
        )
    namespace, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    function = getattr(getattr(getattr(torch.ops, namespace), base), overload or "default")
    if schema_number(function) != schema:
        raise RefusedOperator(f"operator {name!r}: found another schema than torch {torch.__version__} has here")
    fresh = tuple(not is_argument(item) for item in function._schema.returns)
    return Overload(function, fresh, is_view(function), _resizes(function))


def _resizes(function: Any) -> bool:
    """What writes to its arguments does, such as ``out``, unless it is of the kind of ``add_``: none of those is listed
    that changes a size."""
    written = any(each.alias_info is not None and each.alias_info.is_write for each in function._schema.arguments)
    return written and not function._schema.name.endswith("_")
