"""A driver source, changed as an author might, and what is said of it then."""

from __future__ import annotations

import ast
from pathlib import Path

from sat_cli.kit.check import check_source
from sat_cli.kit.findings import Finding


def faults(path: Path) -> list[Finding]:
    return [finding for finding in check_source(path) if finding.level != "ok"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, old
    path.write_text(text.replace(old, new, 1))


def guard(path: Path, clause: str, handler: str) -> None:
    """Put an exception handler into the acquisition loop."""
    line, inner = "            time.sleep(PERIOD)\n", " " * 16
    edit(path, line, f"            try:\n    {line}            {clause}:\n{inner}{handler}\n")


def without(path: Path, name: str) -> None:
    """Remove a method of the driver's class."""
    lines = path.read_text().splitlines(keepends=True)
    (node,) = (
        item
        for cls in ast.walk(ast.parse("".join(lines)))
        if isinstance(cls, ast.ClassDef) and cls.name == "ProbeDriver"
        for item in cls.body
        if isinstance(item, ast.FunctionDef) and item.name == name
    )
    path.write_text("".join(lines[: node.lineno - 1] + lines[node.end_lineno :]))


def fault_in(driver: Path, old: str, new: str, check: str, text: str) -> Finding:
    """What a check says once `old` is `new`, and says `text` of it where it says more."""
    edit(driver, old, new)
    found = [finding for finding in faults(driver) if finding.check == check]
    assert found, faults(driver)
    (fault,) = [finding for finding in found if text in finding.text] or found
    assert text in fault.text
    assert 0 < fault.line <= len(driver.read_text().splitlines())
    return fault
