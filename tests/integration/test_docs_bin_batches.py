"""The page about `bin` batches: its programs run as printed, its bytes are the encoder's, its
tables are the code's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker
from sat_bus.transport.mqtt import MqttBus
from sat_host.settings import HostSettings
from sat_toolkit.core import frame_block
from tests.brokers import embedded_broker
from tests.unit.client_site import FakeSite

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "bin-batches.md").read_text()
CLIENTS = ROOT / "shared" / "sat_js"
_BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: (?P<key>[\w-]+)=(?P<name>\S+))?\n(?P<text>.*?)^```$", re.M | re.S
)
BLOCKS = [hit.groupdict() for hit in _BLOCK.finditer(PAGE)]
FILES = {block["name"]: block["text"] for block in BLOCKS if block["key"] == "file"}
OUTPUTS = {block["name"]: block["text"] for block in BLOCKS if block["key"] == "output-of"}
needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="needs Node.js: apt-get install nodejs"
)


def answer(site: FakeSite, match: topics.Match) -> Any:
    """What the page's device does: its stream loses frames in the kernel and on the way."""
    if match.topic is topics.INPUT_BIN:
        return {"sent": 2, "failed": [{"index": 1, "reason": "nobody on the bus acknowledged it"}]}
    for seq, kernel in ((0, 0), (17, 7), (27, 7), (40, 7)):
        dropped: dict[str, Any] = {"kernel": kernel} if kernel else {}
        site.packed_batch(seq, 10, **dropped)
    return "Started streaming"


@contextmanager
def bench() -> Iterator[str]:
    """The URL of a broker on which the page's device is."""
    with embedded_broker() as broker:
        bus = MqttBus(broker.url, "bench")
        site = FakeSite(MemoryBroker(), bus=bus)
        try:
            site.answer = lambda match, request: answer(site, match)
            site.device("ecu")
            site.born(devices=1)
            yield broker.url
        finally:
            site.close()


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for script in CLIENTS.iterdir():
        shutil.copy(script, folder)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
    command = ["node"] if program.endswith("mjs") else [sys.executable]

    def go(name: str, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, name],
            cwd=folder,
            env=plain | environment,
            capture_output=True,
            text=True,
            timeout=30,
        )

    go("make.py", [sys.executable])
    if "Rack()" not in FILES[program]:
        return go(program, command)
    with bench() as url:
        return go(program, command, SAT_BROKER_URL=url)


@pytest.mark.parametrize(
    "program",
    [pytest.param(name, marks=needs_node) if name.endswith("mjs") else name for name in FILES],
)
def test_a_program_prints_what_the_page_says(tmp_path: Path, program: str) -> None:
    result = run(tmp_path / "page", program)
    assert result.returncode == 0, result.stderr
    assert result.stdout == OUTPUTS[program]
    assert result.stderr == ""


@needs_node
def test_the_function_node_is_one(tmp_path: Path) -> None:
    """Pasted below the decoder, in a context that has what a function node has."""
    run(tmp_path / "page", "make.py")
    (function,) = (block["text"] for block in BLOCKS if block["key"] == "node-red")
    (tmp_path / "function.js").write_text((CLIENTS / "sat-bin.js").read_text() + "\n" + function)
    program = (
        "const { readFileSync } = require('fs');"
        "const text = '(function (msg) {' + readFileSync('function.js', 'utf8') + '})';"
        "const node = require('vm').runInNewContext(text, { Buffer, console });"
        "console.log(JSON.stringify(node({ payload: readFileSync('page/batch.bin') }).payload));"
    )
    result = subprocess.run(
        ["node", "-e", program], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert result.stdout == (
        '[{"t":1760000012.5,"id":291,"data":"deadbeef"},{"t":1760000012.75,"id":417001744,"data":"0210"}]\n'
    ), result.stderr


def test_every_example_is_run() -> None:
    assert set(FILES) == set(OUTPUTS)
    assert {block["kind"] for block in BLOCKS if block["key"] is None} == {"sh"}


def test_the_words_about_the_dump_are_right(tmp_path: Path) -> None:
    run(tmp_path / "page", "make.py")
    payload = (tmp_path / "page" / "batch.bin").read_bytes()
    sentence = re.sub(r"\s+", " ", PAGE[PAGE.index("At 0x0006 stands") :])
    assert (
        f"stands {payload[7]:02x}{payload[6]:02x}: the header takes {payload[6] + 256 * payload[7]} bytes"
        in sentence
    )
    begin = 8 + payload[6] + 256 * payload[7]
    fields = [payload[begin + at : begin + at + 4].hex(" ") for at in (0, 4, 8)]
    told = f"begins at {begin:#06x}. There {fields[0]} is `sec`, {fields[1]} `nsec`, {fields[2]} `can_id`"
    assert f"{told}, {payload[begin + 12]:02x} `len`" in sentence


def test_the_tables_say_what_the_code_says() -> None:
    for flag in (frame_block.EXTENDED, frame_block.REMOTE, frame_block.ERROR):
        assert f"0x{flag:08x} " in PAGE
    for flag in (frame_block.BRS, frame_block.ESI, frame_block.FDF, frame_block.TX):
        assert f"0x{flag:02x} " in PAGE
    for name in m.DeliveryArgs.model_fields:
        assert f'{{"stream": {{"{name}": ' in PAGE
    for name in ("stream_formats", "stream_window_ms"):
        assert name in HostSettings.model_fields
        assert f"SAT_{name.upper()}=" in PAGE
