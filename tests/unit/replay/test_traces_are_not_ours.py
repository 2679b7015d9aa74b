"""The openb traces are others': they are neither in the repository nor in the package nor in the image."""

import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_no_trace_in_the_repository() -> None:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone")
    names = [Path(line).name for line in listed.splitlines()]
    assert names and not [name for name in names if name.endswith(".csv")]


def test_no_trace_in_the_package() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [pattern for each in data.values() for pattern in each]
    trace = "openb_pod_list_default.csv"
    assert patterns and not [p for p in patterns if fnmatch(trace, p.rpartition("/")[2]) and "static" not in p]


def test_only_named_folders_are_copied_into_the_image() -> None:
    lines = (ROOT / "images" / "Dockerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied and not {"benchmarks", "shared", "tests", "traces", ".", "*"} & set(copied)
    for folder in copied:
        assert not list((ROOT / folder).rglob("*.csv"))
