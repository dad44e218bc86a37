"""A pytest plugin that says how far a run is and about how long it still takes, in place of dots.

On a terminal it is one line that changes; elsewhere, as in the log of a build, a line for each
tenth. A failure is said at once. `scripts/test` loads it with ``-p tests.progress`` and
``-o console_output_style=classic``; with ``-v`` pytest names each test, and this says nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Sequence

import pytest

# About how many seconds a test of the tier takes: a tenth of the tests takes half of the time.
SECONDS = {"e2e": 3.0, "integration": 2.0, "compose": 10.0, "node_red": 10.0, "wheel": 30.0, "netns": 20.0, "vm": 5.0,
           "plugins": 0.4, "contract": 0.5}  # fmt: skip
_OTHERWISE = 0.08
_TELLING = 0.03  # of the work is done before what is left is estimated


def weight(nodeid: str) -> float:
    """About how many seconds a test takes, by its tier."""
    tier = nodeid.removeprefix("tests/").partition("/")[0]
    return SECONDS.get(tier, _OTHERWISE)


def spoken(seconds: float) -> str:
    """A time to wait, as a person would say it."""
    if seconds < 60:
        return "less than a minute left"
    return f"about {round(seconds / 60)} min left"


class Progress:
    """What is done of a run's tests, in work rather than in numbers. PURE."""

    def __init__(self, nodeids: Sequence[str], now: float) -> None:
        self._total, self._work = len(nodeids), sum(map(weight, nodeids))
        self._began = now
        self._count, self._done = 0, 0.0
        self._told = 0

    def finished(self, nodeid: str) -> None:
        self._count += 1
        self._done += weight(nodeid)

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(self._done / self._work, 1.0) if self._work else 1.0

    def tenth(self) -> bool:
        """Whether another tenth is done since this was last asked."""
        told, self._told = self._told, int(self.share * 10 + 1e-9)
        return self._told > told

    def line(self, now: float) -> str:
        took, share = now - self._began, self.share
        text = f"[{share:4.0%} {self._count}/{self._total}] {int(took) // 60}:{int(took) % 60:02}"
        if share < _TELLING or self._count >= self._total:
            return text
        return f"{text}, {spoken(took * (1 - share) / share)}"


class Reporter:
    """Writes the progress to pytest's terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal = config.pluginmanager.get_plugin("terminalreporter")
        self._progress: Progress | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """Every worker has collected the same."""
        if self._progress is None:
            self._progress = Progress(ids, time.monotonic())

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:  # under xdist this process has none
            self._progress = Progress([item.nodeid for item in session.items], time.monotonic())

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(
        self,
    ) -> Generator[None, tuple[str, str, object], tuple[str, str, object]]:
        """No letter for a test."""
        category, _, word = yield
        return category, "", word

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say(f"{'FAILED' if report.when == 'call' else 'ERROR'} {report.nodeid}")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if self._progress is None:
            return
        self._progress.finished(nodeid)
        tenth = self._progress.tenth()
        line = self._progress.line(time.monotonic())
        if self._terminal.isatty:
            line = f"{line}  {nodeid.partition('::')[0]}"
            self._terminal.rewrite(line[: shutil.get_terminal_size().columns - 1], erase=True)
        elif tenth:
            self._say(line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._progress is not None and (self._terminal.isatty or self._progress.share < 1):
            self._say(self._progress.line(time.monotonic()))

    def _say(self, line: str) -> None:
        if self._terminal.isatty:
            self._terminal.rewrite(line, erase=True)
            self._terminal.write_line("")
        else:
            self._terminal.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    at_work = not hasattr(config, "workerinput")  # a worker of xdist has no terminal
    if at_work and config.get_verbosity() == 0:
        config.pluginmanager.register(Reporter(config), "sat-progress")
