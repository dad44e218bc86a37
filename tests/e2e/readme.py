"""The README's first five minutes, run as a reader would run them, on the broker at a port."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def first_five_minutes() -> list[tuple[str, str]]:
    """The fenced blocks of that section: language, text."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## The first five minutes", 1)[1].split("\n## ", 1)[0]
    return _BLOCK.findall(section)


def run_first_five_minutes(port: int, environment: Mapping[str, str]) -> None:
    """Run the shell's blocks; fails when one fails, or when what they print is not what the README
    shows."""
    blocks = first_five_minutes()
    script = "\n".join(text for language, text in blocks if language == "sh")
    # A reader's broker has the default port; here the same commands go to another.
    clients = "\n".join(
        f'{name}() {{ command {name} -p {port} "$@"; }}'
        for name in ("mosquitto_sub", "mosquitto_pub")
    )
    script = re.sub(r"(mosquitto_pub .*)", r"\1; wait_for_reply", script)
    # A reader does not type the next line before the first word is there.
    script = re.sub(r"(mosquitto_sub .*) &\n", r"\1 >$SEEN & wait_for_seen\n", script)
    script = re.sub(r"(/set\" -m (\w*connected); wait_for_reply)", r"\1; wait_for_state \2", script)
    waiting = f'command mosquitto_sub -p {port} -W 3 -C 1 -R -t "$DEVICE/res/#" >/dev/null || true'
    state = f'command mosquitto_sub -p {port} -W 1 -C 1 -t "$DEVICE/state"'
    until = f'SECONDS=0; until [ "$({state})" = "$1" ]; do [ $SECONDS -lt 20 ] || return 1; done'
    seen = "SECONDS=0; until [ -s $SEEN ]; do [ $SECONDS -lt 20 ] || return 1; sleep 0.05; done"
    helpers = f"wait_for_reply() {{ {waiting}; }}; wait_for_state() {{ {until}; }}; wait_for_seen() {{ {seen}; }}"
    at_end = "kill %1 2>/dev/null || true; cat $SEEN; rm $SEEN"
    done = subprocess.run(
        ["bash", "-euc", f"set -m; SEEN=$(mktemp); trap '{at_end}' EXIT\n{clients}\n{helpers}\n{script}"],
        env=environment, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    position = 0
    for line in _expected_lines(blocks):
        pieces = [re.escape(piece) for piece in line.split("...") if piece]
        found = re.compile(".*?".join(pieces)).search(done.stdout, position)
        assert found, f"{line!r} is not in what came after: {done.stdout[position:]}"
        position = found.start()


def _expected_lines(blocks: list[tuple[str, str]]) -> list[str]:
    """The lines of the watching terminal that the README shows."""
    return [
        line
        for language, text in blocks
        if language == "text"
        for line in text.splitlines()
        if line[:3] == "..."
    ]
