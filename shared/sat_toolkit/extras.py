"""What the distribution leaves to be installed by choice, and how a program says that it is missing."""

from __future__ import annotations

from sat_toolkit.errors import ConfigError

DISTRIBUTION = "sat-rack"


def with_extra(extra: str) -> str:
    """How the distribution is named with one of its extras."""
    return f"{DISTRIBUTION}[{extra}]"


def lacking(error: ModuleNotFoundError, extra: str, what: str) -> ConfigError:
    """The error that says in one line which extra `what` needs."""
    missing = (error.name or "a library").partition(".")[0]
    return ConfigError(
        f"{what} needs {missing}, which is not installed: install {with_extra(extra)}"
    )
