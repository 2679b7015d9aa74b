"""The page's third-party files are what their README says, and the page needs nothing from elsewhere."""

import hashlib
import re

from tessera.dashboard.api import STATIC

VENDOR = STATIC / "vendor"
ROW = re.compile(r"^(\S+\.mjs)\s.*\s([0-9a-f]{64})$", re.MULTILINE)


def test_vendored_files_have_the_noted_hashes() -> None:
    noted = dict(ROW.findall((VENDOR / "README").read_text()))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.mjs")}
    assert found == noted and found


def test_no_page_file_names_another_origin_or_carries_inline_code() -> None:
    ours = [STATIC / "index.html", STATIC / "style.css", *(STATIC / "js").glob("*.js")]
    for path in ours:
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", path.read_text(), re.IGNORECASE), path.name
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son[a-z]+=|\sstyle=", page)
