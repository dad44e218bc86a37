"""Print the part of requirements.lock that is wanted, hashes included, for
`pip install --require-hashes`.

    python deploy/locked.py can orchestrator   what these extras need, and the client
    python deploy/locked.py --build            what building the wheel needs

The lock pins what developers use too, and an image needs none of that. A package is in the part
when the project names it, or when one that is in the part does: uv notes beside each whom it is
there for. Too small a part makes pip fail, as it takes no package without a hash.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def part(lock: str, roots: Iterable[str]) -> str:
    """The blocks of `lock` for `roots`, which are requirements or names, and for all that they
    need.

    Raises:
        KeyError: a root that the lock does not pin.
    """
    blocks: dict[str, str] = {}
    for block in re.split(
        r"(?m)^(?=[A-Za-z0-9])", lock
    ):  # a package has two where the Python's version decides
        blocks[_name(block)] = blocks.get(_name(block), "") + block
    wanted: set[str] = set()
    fresh = {_name(root) for root in roots}
    if missing := fresh - blocks.keys():
        raise KeyError(f"not in the lock: {', '.join(sorted(missing))}")
    while fresh:
        wanted |= fresh
        fresh = {
            name
            for name, block in blocks.items()
            if name not in wanted and _parents(block) & wanted
        }
    return "".join(blocks[name] for name in sorted(wanted))


def roots(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """What the project needs with `extras`, those that they name in turn included.

    Raises:
        KeyError: there is no such extra.
    """
    table = project["project"]
    offered: dict[str, list[str]] = table["optional-dependencies"]
    found: list[str] = [*table["dependencies"]]
    for extra in extras:
        if extra not in offered:
            raise KeyError(f"no such extra: {extra}; there are: {', '.join(offered)}")
        ours = re.compile(rf"{table['name']}\[(.*)\]")
        for requirement in offered[extra]:
            named = ours.fullmatch(requirement)
            found += roots(project, named[1].split(",")) if named else [requirement]
    return found


def _name(text: str) -> str:
    match = _NAME.match(text)
    return re.sub(r"[._-]+", "-", match[0]).lower() if match else ""


def _parents(block: str) -> set[str]:
    """Whom a package is there for; `via` stands before one, or above several."""
    notes = block.partition("# via")[2].replace("#", " ")
    return {_name(line.strip()) for line in notes.splitlines() if "pyproject.toml" not in line}


def main() -> None:
    """The program."""
    root = Path(__file__).resolve().parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())
    try:
        needed = (
            project["build-system"]["requires"]
            if sys.argv[1:] == ["--build"]
            else roots(project, sys.argv[1:])
        )
        sys.stdout.write(part((root / "requirements.lock").read_text(), needed))
    except KeyError as error:
        sys.exit(f"locked: {error.args[0]}")


if __name__ == "__main__":
    main()
