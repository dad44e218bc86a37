"""What holds for every test: it leaves no thread, no child process and no asyncio task behind, and
one that fails shows what the programs that it used have said."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is, nothing else.
settings.register_profile("sat", deadline=None)
settings.load_profile("sat")

GRACE = 3.0
# Threads that a library keeps for the whole process and that no API of it ends.
_RESIDENT = ("pytest_timeout", "alembic", "AnyIO", "asyncio_")


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if not t.name.startswith(_RESIDENT)}


def _children() -> set[str]:
    tasks = Path("/proc/self/task")
    found: set[str] = set()
    for task in tasks.iterdir() if tasks.is_dir() else ():
        try:
            found.update((task / "children").read_text().split())
        except OSError:  # the thread ended while we looked
            continue
    return found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind, after a grace for those that are
    ending."""
    threads, children = _threads(), _children()
    yield
    deadline = time.monotonic() + GRACE
    while True:
        new_threads, new_children = _threads() - threads, _children() - children
        if not new_threads and not new_children:
            return
        if time.monotonic() > deadline:
            break
        for thread in new_threads:
            thread.join(0.05)
        os.sched_yield()
    names = sorted(t.name for t in new_threads)
    pytest.fail(f"left behind: threads {names}, child processes {sorted(new_children)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A fixture that runs programs has a method `logs`."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, used in item.funcargs.items():
            if callable(logs := getattr(used, "logs", None)):
                report.sections.append((f"logs of {name}", logs()))
    return report
