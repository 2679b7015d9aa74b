"""The configuration files of the cluster, kept readable under `files/`, with `$names` filled in."""

from __future__ import annotations

from pathlib import Path
from string import Template

FOLDER = Path(__file__).with_name("files")


def render(name: str, **values: object) -> str:
    """The template's text; a name without a value is a KeyError, never left in place."""
    return Template((FOLDER / name).read_text()).substitute({key: str(value) for key, value in values.items()})


def write(target: Path, name: str, **values: object) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render(name, **values))
    return target
