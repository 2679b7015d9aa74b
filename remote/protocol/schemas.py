"""What both sides read off an operator's schema, so that they number and name the same. An operator is one of torch's
overloads."""

import hashlib
from typing import Any


def name_of(function: Any) -> str:
    """As a FORM names it, such as ``aten::add.Tensor``."""
    overload = function._schema.overload_name
    return f"{function._schema.name}.{overload}" if overload else str(function._schema.name)


def schema_number(function: Any) -> int:
    """The first 8 bytes of BLAKE2b of the schema's text."""
    digest = hashlib.blake2b(str(function._schema).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def is_argument(result: Any) -> bool:
    """Whether a result of the schema is an argument that the operator has written to, and no tensor of its own."""
    return result.alias_info is not None and result.alias_info.is_write


def is_view(function: Any) -> bool:
    """Whether what it returns shares memory with an argument that it leaves as it is."""
    return any(item.alias_info is not None and not item.alias_info.is_write for item in function._schema.returns)
