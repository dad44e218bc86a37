"""What a service logs: our code, plugins and libraries as one stream of lines or of JSON objects on
stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sat_bus.service.settings import ServiceSettings


@contextmanager
def _without(library: str) -> Iterator[None]:
    """While this lasts, an import of `library` fails, unless it is loaded already."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment] # what the import system takes for "no"
    try:
        yield
    finally:
        del sys.modules[library]


# It would import Rich for tracebacks that we print plain: a tenth of a second of each start.
with _without("rich"):
    import structlog

# Libraries that say what we say ourselves, or what nobody asked for.
_QUIET = {
    "amqtt": logging.ERROR, "transitions": logging.ERROR, "websockets": logging.CRITICAL,
    "asyncio": logging.WARNING, "can": logging.WARNING, "alembic": logging.WARNING,
}  # fmt: skip


def configure_logging(service: str, settings: ServiceSettings) -> None:
    """Set up the logs of the process, as `settings` have it."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service(service),
    ]
    finish: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta
    ]
    if settings.log_format == "json":
        finish += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        finish.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=finish)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def _add_service(service: str) -> structlog.typing.Processor:
    def add(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add
