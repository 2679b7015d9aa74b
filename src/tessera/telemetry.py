"""Logging, set up once by each process: structlog to standard error, as text for people or JSON for machines."""

import logging
import sys

import structlog
from structlog.typing import Processor

from tessera.settings import LogSettings


def configure_logging(settings: LogSettings | None = None, **bound: str) -> None:
    """Sets up structlog and the standard library's logging; ``bound`` values stand on every line."""
    settings = settings or LogSettings()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _bind(bound),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *_renderers(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(level, shared, settings)


def _bind(bound: dict[str, str]) -> Processor:
    """Adds ``bound`` to every line, in every thread and task, below what the line itself says."""
    return lambda _logger, _method, event: {**bound, **event}


def _renderers(settings: LogSettings) -> list[Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _route_standard_logging(level: int, shared: list[Processor], settings: LogSettings) -> None:
    """Gives the libraries' records (uvicorn, aiohttp, grpc) the same form."""
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[remove_meta, *_renderers(settings)], foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.INFO))
