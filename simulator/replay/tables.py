"""CSV files with a header, read strictly: every fault is one sentence with file, line and field."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


class TraceError(ValueError):
    """A trace cannot be used; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file, by column."""

    path: Path
    line: int
    fields: dict[str, str]

    def text(self, column: str) -> str:
        """The field without surrounding blanks; empty if there is no such column."""
        return self.fields.get(column, "").strip()

    def name(self, column: str) -> str:
        """A field that must not be empty."""
        return self.text(column) or self._fail(column, "a name")

    def number(self, column: str, low: int, high: int, *, default: int | None = None) -> int:
        """A whole number from ``low`` to ``high``; an empty or absent field gives ``default``, if there is one."""
        text = self.text(column)
        if not text and default is not None:
            return default
        if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            self._fail(column, f"a whole number from {low} to {high}")
        return int(text)

    def fault(self, column: str, allowed: str) -> TraceError:
        """What was found in ``column``, and what is allowed."""
        return TraceError(f"{self.path}, line {self.line}: {column}: found {self.text(column)!r}; allowed: {allowed}")

    def _fail(self, column: str, allowed: str) -> str:
        raise self.fault(column, allowed)


def rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The lines of ``path``, which must have at least ``columns``. Raises ``TraceError``."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            try:
                yield from _rows(path, lines, columns)
            except csv.Error as error:
                at = f"{path}, line {lines.line_num}"
                raise TraceError(f"{at}: found what is not CSV ({error}); allowed: CSV text") from error
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        at = f"{path}, line {_first_undecodable(path)}"
        raise TraceError(f"{at}: found bytes that are not UTF-8; allowed: CSV text") from error


def _first_undecodable(path: Path) -> int:
    """The error itself counts from the piece of the file that was being read."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 1


def _rows(path: Path, lines: Iterator[list[str]], columns: Sequence[str]) -> Iterator[Row]:
    header = [name.strip() for name in next(lines, [])]
    wanted = ", ".join(columns)
    if not any(header):
        raise TraceError(f"{path}, line 1: found no header; allowed: the columns {wanted}")
    for name in columns:
        if name not in header:
            raise TraceError(f"{path}, line 1: {name}: found no such column; allowed: the columns {wanted}")
    for name in header:
        if header.count(name) > 1:
            raise TraceError(f"{path}, line 1: {name}: found twice; allowed: each column once")
    number, read = 2, 0
    for fields in lines:
        line, number = number, _next_line(lines, number)
        if not fields:
            continue
        if len(fields) != len(header):
            raise TraceError(f"{path}, line {line}: found {len(fields)} fields; allowed: {len(header)}, as in line 1")
        read += 1
        yield Row(path, line, dict(zip(header, fields, strict=True)))
    if not read:
        raise TraceError(f"{path}, line 2: found nothing below the header; allowed: at least one line")


def _next_line(lines: Iterator[list[str]], number: int) -> int:
    """Where the next record begins: a quoted field may hold line breaks."""
    return int(getattr(lines, "line_num", number)) + 1
