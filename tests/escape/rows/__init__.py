"""Every way that is tried, by name: its wall, the real part that is exercised, and what is done."""

from tests.escape.rows import plain, variables, library, allocators, images, files, mps, containers, scheduling  # noqa: F401, I001
from tests.escape.rows.table import ROWS, Row

__all__ = ["ROWS", "Row"]
