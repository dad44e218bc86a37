"""Whether requirements.lock is in step with pyproject.toml, told without a network.

Every dependency that pyproject.toml names, extras and build backend included, is pinned in a
version that fits, every pin carries hashes, and nothing is pinned for the project's sake that it no
longer names. That the pins agree with each other is what `pip install --require-hashes` proves.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)")
_DIRECT = "(pyproject.toml)"


def pins(lock: str) -> dict[str, list[tuple[str, str]]]:
    """Name -> (version, everything up to the next pin); a name may be pinned twice, for different
    markers."""
    found: dict[str, list[tuple[str, str]]] = {}
    for block in re.split(r"(?m)^(?=[\w-])", lock):
        hit = _PIN.match(block)
        if hit:
            found.setdefault(canonicalize_name(hit["name"]), []).append((hit["version"], block))
    return found


def wanted(project: dict[str, Any]) -> list[Requirement]:
    """What pyproject.toml names, wherever it names it; extras name each other as the project's."""
    table = project["project"]
    extras = table.get("optional-dependencies", {}).values()
    named = [
        *table["dependencies"],
        *(text for extra in extras for text in extra),
        *project["build-system"]["requires"],
    ]
    found = [Requirement(text) for text in named]
    return [requirement for requirement in found if requirement.name != table.get("name")]


def problems(pyproject: str, lock: str) -> list[str]:
    """What is out of step, one line each; empty when nothing is."""
    locked, requirements = pins(lock), wanted(tomllib.loads(pyproject))
    found: list[str] = []
    for requirement in requirements:
        versions = [version for version, _ in locked.get(canonicalize_name(requirement.name), [])]
        if not versions:
            found.append(f"{requirement} is not pinned")
        elif not all(
            requirement.specifier.contains(version, prereleases=True) for version in versions
        ):
            found.append(f"{requirement} is pinned as {', '.join(versions)}")
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    for name, entries in locked.items():
        for version, block in entries:
            if "--hash=sha256:" not in block:
                found.append(f"{name}=={version} has no hash")
            if _DIRECT in block and name not in names:
                found.append(
                    f"{name}=={version} is pinned for the project, which no longer names it"
                )
    return found


def main() -> int:
    found = problems(
        (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()
    )
    if found:
        lines = [f"requirements.lock: {line}" for line in found]
        sys.stderr.write("\n".join([*lines, "scripts/lock writes it anew", ""]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
