"""What is said of a library that was not installed."""

from __future__ import annotations

import pytest

from sat_toolkit.extras import DISTRIBUTION, lacking, with_extra


@pytest.mark.parametrize(
    ("name", "missing"), [("sqlalchemy.engine", "sqlalchemy"), ("can", "can"), (None, "a library")]
)
def test_a_missing_library_is_named_with_the_extra_to_install(
    name: str | None, missing: str
) -> None:
    error = lacking(ModuleNotFoundError("no", name=name), "host", "sat host")
    assert str(error) == (
        f"sat host needs {missing}, which is not installed: install {DISTRIBUTION}[host]"
    )


def test_the_distribution_with_an_extra() -> None:
    assert with_extra("all") == f"{DISTRIBUTION}[all]"
