"""The tutorial works as printed: its commands are run in one shell, its changes made, what it shows
compared."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sat_cli.brokers.tcp_ports import find_free_port

pytestmark = pytest.mark.alone
TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "plugins" / "tutorial.md"
DEADLINE = 240
_BLOCK = re.compile(r"^```(?P<kind>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    kind: str
    file: str | None
    text: str


BLOCKS = [Block(**hit.groupdict()) for hit in _BLOCK.finditer(TUTORIAL.read_text())]


def apply(diff: str, path: Path) -> None:
    """Make the change that a person would make who reads `diff`: its old lines are in the file
    once."""
    lines = diff.splitlines()
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new))


def shown(expected: str, said: str) -> bool:
    """Whether all of `expected` is in `said`, in that order; ``...`` stands for anything."""
    parts = [re.escape(part.strip("\n")) for part in expected.split("...")]
    return re.search(".*?".join(parts), said, re.S) is not None


def script(folder: Path) -> str:
    """The blocks as one bash script; the output of the n-th goes to ``n.out``."""
    lines = ["set -eu"]
    for number, block in enumerate(BLOCKS):
        if block.kind == "sh":
            lines.append(f"{{\n{block.text}}} >{number}.out 2>&1")
        elif block.kind == "diff":
            change = shlex.join([sys.executable, str(Path(__file__)), str(number), str(folder)])
            lines.append(f"{change} >{number}.out 2>&1")
    return "\n".join(lines)


def test_every_block_is_of_a_kind_that_is_run_or_compared() -> None:
    assert {block.kind for block in BLOCKS} == {"sh", "diff", "text"}
    assert [block for block in BLOCKS if block.kind == "diff" and block.file is None] == []


@pytest.mark.timeout(DEADLINE + 20)
def test_the_tutorial_works_as_printed(tmp_path: Path) -> None:
    port, instrument = find_free_port(), find_free_port()
    text = script(tmp_path).replace("sat up ", f"sat up --broker-kind embedded --port {port} ")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAT_", "PYTEST_"))
    } | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "SAT_BROKER_URL": f"mqtt://127.0.0.1:{port}",
        "COLUMNS": "120",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(
        ["bash", "-c", text.replace("5025", str(instrument))], cwd=tmp_path, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    outputs = {
        number: path.read_text()
        for number in range(len(BLOCKS))
        if (path := tmp_path / f"{number}.out").exists()
    }
    last = max(outputs)
    assert process.returncode == 0, (
        f"{said}\nin:\n{BLOCKS[last].text}\nwhich said:\n{outputs[last]}"
    )
    for number, block in enumerate(BLOCKS):
        if block.kind == "text" and not block.text.startswith("$ "):
            assert shown(block.text, outputs[number - 1]), (
                f"expected:\n{block.text}\nsaid:\n{outputs[number - 1]}"
            )


if __name__ == "__main__":
    chosen = BLOCKS[int(sys.argv[1])]
    apply(chosen.text, Path(sys.argv[2]) / str(chosen.file))
