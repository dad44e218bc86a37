"""The version of the distribution that this is part of."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def sat_version() -> str:
    """As ``sat --version`` prints it; ``unknown`` when run from a tree that is not installed."""
    try:
        return version("sat-toolkit")
    except PackageNotFoundError:
        return "unknown"
