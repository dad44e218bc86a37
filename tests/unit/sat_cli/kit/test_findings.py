"""A finding: where it is, and whether it is a failure."""

from __future__ import annotations

import pytest

from sat_cli.kit.findings import Finding, failed


def test_where_it_is() -> None:
    assert Finding("fail", "hooks", file="drv_x.py", line=7).where == "drv_x.py:7"
    assert Finding("fail", "file", file="drv_x.py").where == "drv_x.py"


@pytest.mark.parametrize(
    ("levels", "is_failure"),
    [([], False), (["ok", "warn"], False), (["ok", "fail", "warn"], True)],
)
def test_what_fails_is_a_failure_and_nothing_else(levels: list, is_failure: bool) -> None:
    assert failed(Finding(level, "x") for level in levels) is is_failure
