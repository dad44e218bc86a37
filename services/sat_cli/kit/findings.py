"""What a check finds, and how bad it is. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One finding: `check` is what was looked at, `text` what was seen, `fix` what to do about it.

    `file` and `line` say where; line 0 is the file as a whole.
    """

    level: Level
    check: str
    text: str = ""
    file: str = ""
    line: int = 0
    fix: str = ""

    @property
    def where(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}" if self.line else self.file


def failed(findings: Iterable[Finding]) -> bool:
    """Whether any of them is a failure."""
    return any(finding.level == "fail" for finding in findings)
