"""What a benchmark found, and the page it is written to. PURE but for the two files that `save` and
`write_page` write.

A benchmark is a module of this folder with a `TITLE`, a docstring (it goes into the page, word for
word) and ``run(context) -> list[Row]``; `NAMES` in `__main__` lists it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line: ours beside a peer, measured in turn in one run.

    Attributes:
        what: what was measured, such as ``rate without loss``.
        unit: of the values.
        ours, peer: one value for each repetition; no `peer` where the target is a plain number.
        against: what the peer is.
        at_least, at_most: the target for the ratio ours / peer, or for ours where there is no peer.
            None: no target.
        note: what a reader must know to trust the line.
    """

    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The median of the ratios pair by pair, as the machine's speed drifts; of the medians
        where unpaired."""
        if not self.peer or not self.ours:
            return None
        if len(self.peer) == len(self.ours):
            return median(_divide(a, b) for a, b in zip(self.ours, self.peer, strict=True))
        return _divide(median(self.ours), median(self.peer))

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.at_least is None and self.at_most is None:
            return None
        if not self.ours:
            return False
        value = self.ratio if self.peer else median(self.ours)
        assert value is not None
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )


@dataclass(frozen=True)
class Result:
    """A benchmark that was run: `machine` and `versions` are what it ran on, `when` an ISO date."""

    name: str
    title: str
    about: str
    when: str
    seconds: float
    machine: str
    versions: Mapping[str, str]
    rows: Sequence[Row]
    remarks: Sequence[str] = field(default=())


def save(result: Result, folder: Path) -> None:
    """Keep `result` as ``<folder>/<name>.json``."""
    rows = [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in result.rows]
    (folder / f"{result.name}.json").write_text(
        json.dumps(asdict(result) | {"rows": rows}, indent=1) + "\n"
    )


def load(path: Path) -> Result:
    """A result that `save` kept."""
    saved: dict[str, Any] = json.loads(path.read_text())
    rows = [
        Row(**{key: value for key, value in row.items() if key not in ("ratio", "met")})
        for row in saved["rows"]
    ]
    return Result(**saved | {"rows": rows})


def write_page(results: Sequence[Result], page: Path) -> None:
    """Write the page of `results`."""
    page.write_text(
        "\n".join([*_HEAD, *(line for result in results for line in _section(result))]).rstrip()
        + "\n"
    )


def table(rows: Sequence[Row]) -> list[str]:
    """`rows` as a table of Markdown, ratios first."""
    lines = [
        "| what | ratio | target | met | ours | peer | peer is | unit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"**{number(row.ratio)} x**"
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = (
            row.what,
            ratio,
            _target(row),
            met,
            _spread(row.ours),
            _spread(row.peer),
            row.against,
            row.unit,
        )
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {row.what}: {row.note}" for row in rows if row.note]
    return [*lines, "", *notes, ""] if notes else [*lines, ""]


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


_HEAD = (
    "# Benchmarks",
    "",
    "Written by `scripts/bench`, which ran everything below: do not edit. Ours and the peer run in turn in one run on",
    "one machine; a value is the median of the repetitions with the lowest and highest in brackets, a ratio the median",
    "of the ratios pair by pair. Only ratios carry over to another machine. The programs are in `tests/bench`.",
    "",
)


def _section(result: Result) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    remarks = [f"{remark}\n" for remark in result.remarks]
    ran = f"{result.when}, {result.seconds:.0f} s, on {result.machine}; {versions}."
    return [
        f"## {result.title}",
        "",
        result.about.strip(),
        "",
        *table(result.rows),
        *remarks,
        ran,
        "",
    ]


def _target(row: Row) -> str:
    unit = " x" if row.peer else f" {row.unit}"
    bounds = [f"at least {number(row.at_least)}{unit}"] if row.at_least is not None else []
    return " and ".join(
        bounds + ([f"at most {number(row.at_most)}{unit}"] if row.at_most is not None else [])
    )


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = number(median(values))
    return (
        middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"
    )


def _divide(a: float, b: float) -> float:
    return a / b if b else float("inf") if a else 1.0
