"""Logs are lines on standard error, with what the process bound to them, from our code and from libraries."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tessera.settings import LogSettings
from tessera.telemetry import configure_logging


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def test_json_lines_carry_the_bound_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(log_format="json", log_level="info"), component="scheduler")
    structlog.get_logger().info("bound", pod="ns/a")
    structlog.get_logger().debug("not shown")
    logging.getLogger("uvicorn.error").warning("from a library")
    captured = capsys.readouterr()
    assert captured.out == ""
    ours, theirs = (json.loads(line) for line in captured.err.splitlines())
    assert (ours["event"], ours["pod"], ours["component"], ours["level"]) == ("bound", "ns/a", "scheduler", "info")
    assert (theirs["event"], theirs["component"], theirs["level"]) == ("from a library", "scheduler", "warning")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_LOG_FORMAT", "json")
    assert LogSettings().log_format == "json"
