"""A failed test shows what the rack's programs and Node-RED have said."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.e2e.rack import Rack
from tests.node_red.node_red import NodeRed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for used in item.funcargs.values():
            if isinstance(used, Rack | NodeRed):
                report.sections.append(("programs", used.logs()))
    return report
