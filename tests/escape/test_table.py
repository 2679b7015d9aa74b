"""What the documents say is tried is what is tried."""

import re

from tests.escape.rows import ROWS
from tests.native.container import ROOT


def test_the_document_has_every_row():
    text = (ROOT / "docs" / "enforcement.md").read_text()
    section = text.partition("## What is tried against it")[2].partition("\n## ")[0]
    told = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (yes)? ?\|$", section, re.MULTILINE)
    assert told == [(row.name, row.wall, row.real, "yes" if row.again else "") for row in ROWS]


def test_no_row_has_the_name_of_another():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
