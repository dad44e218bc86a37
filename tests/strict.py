"""A pytest plugin under which nothing is left out: a skip or an expected failure is a failure.

`scripts/test --all` loads it with ``-p tests.strict``, so that a run which says it ran everything
did.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

Report = pytest.TestReport | pytest.CollectReport


def _refuse(report: Report, what: str) -> None:
    reason = (
        report.longrepr[2]
        if isinstance(report.longrepr, tuple)
        else getattr(report, "wasxfail", "")
    )
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {what} under --all: {reason}"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if hasattr(report, "wasxfail"):
        _refuse(report, "expected to fail")
    elif report.skipped:
        _refuse(report, "skipped")
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse(report, "skipped as a whole")
    return report
