"""`xlog`, the logger of the guide's era. It names loggers and never configures handlers or
levels."""

from __future__ import annotations

import logging
from typing import Any


class XLog:
    """Hands out standard loggers, and logs by itself under the name ``sat``."""

    def __init__(self, name: str = "sat") -> None:
        self._logger = logging.getLogger(name)

    def get_logger(self, name: str) -> logging.Logger:
        return logging.getLogger(name)

    # stacklevel 2: the record names the caller's file and line, not this one.
    def debug(self, message: object, *args: object, **options: Any) -> None:
        self._logger.debug(message, *args, stacklevel=2, **options)

    def info(self, message: object, *args: object, **options: Any) -> None:
        self._logger.info(message, *args, stacklevel=2, **options)

    def warning(self, message: object, *args: object, **options: Any) -> None:
        self._logger.warning(message, *args, stacklevel=2, **options)

    def error(self, message: object, *args: object, **options: Any) -> None:
        self._logger.error(message, *args, stacklevel=2, **options)


xlog = XLog()
