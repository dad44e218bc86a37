"""What the operators' page says of units and back-ups is so."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

from sat_bus.service.loop import WorkLoop
from sat_orchestrator.store.database import Database
from sat_orchestrator.store.store import Store
from tests.deploy.test_units import UNITS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operators.md").read_text()


def blocks(word: str) -> list[str]:
    return [text for text in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) if word in text]


def tables(path: Path) -> set[str]:
    database = sqlite3.connect(path)
    try:
        return {
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    finally:
        database.close()


def test_a_database_in_use_is_copied_whole(tmp_path: Path) -> None:
    """And a copy of its file alone is not, or the page would say too much."""
    (text,) = blocks(".backup(")
    words = shlex.split(text)
    command = [word for word in words[words.index("/opt/sat/bin/python") :] if word != "\n"]
    source, target = tmp_path / "lab.db", tmp_path / "copy.db"
    command[0], command[-2:] = sys.executable, [str(source), str(target)]
    store = Store(Database(f"sqlite:///{source}"), WorkLoop("test"))
    store.open()
    try:
        subprocess.run(command, check=True, timeout=60)
        alone = tmp_path / "alone.db"
        alone.write_bytes(source.read_bytes())
        known = tables(source)
        assert known
        assert tables(target) == known
        assert tables(alone) != known
    finally:
        store.close()


def test_what_is_copied_enabled_and_started_is_there() -> None:
    (text,) = blocks("systemctl enable")
    (enabled,) = re.findall(r"^systemctl enable (.*)$", text, re.M)
    units = {re.sub(r"@.*", "@", name) for name in enabled.split()}
    assert units == {
        path.stem if path.suffix == ".service" else path.name for path in UNITS.iterdir()
    } - {"sat.conf"}
    for path in re.findall(r"deploy/systemd/(\S+)", text):
        assert list(UNITS.glob(path)), path


def test_the_page_names_the_units_limits() -> None:
    host, orchestrator = (
        (UNITS / name).read_text() for name in ("sat-host@.service", "sat-orchestrator.service")
    )
    assert "MemoryMax=4G\n" in host
    assert "MemoryMax=512M\n" in orchestrator
    assert "may use 4 GiB, `sat-orchestrator` 512 MiB" in PAGE
    assert "WatchdogSec=20\n" in host
    assert "WatchdogSec=20\n" in orchestrator
    assert "hangs for 20 s is killed" in PAGE
