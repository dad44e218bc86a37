"""The golden `bin` batches: the encoder writes them, the Python and the JavaScript decoder read the
same from them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sat_bus.contract import bin_batch
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = ROOT / "tests" / "golden" / "bin"
EXPECTED: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))
}
GOOD = [name for name, expected in EXPECTED.items() if "frames" in expected]
BAD = [name for name in EXPECTED if name not in GOOD]


def contract(frame: dict[str, Any]) -> dict[str, Any]:
    """A golden frame as the contract has it: ``t`` in seconds for ``ns``."""
    sec, nsec = divmod(int(frame["ns"]), 10**9)
    return {"t": sec + nsec / 1e9} | {name: value for name, value in frame.items() if name != "ns"}


def without_times(block: FrameBlock) -> list[bytes]:
    return [
        bytes(block.records[at + 8 : at + block.size])
        for at in range(0, len(block.records), block.size)
    ]


def test_the_files_are_what_their_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    there = {
        path.name: path.read_bytes()
        for path in GOLDEN.iterdir()
        if path.suffix in (".bin", ".json")
    }
    assert there == make.files()
    assert len(GOOD) >= 9
    assert len(BAD) >= 15


@pytest.mark.parametrize("name", GOOD)
def test_the_python_decoder_reads_them(name: str) -> None:
    header, block = bin_batch.decode((GOLDEN / f"{name}.bin").read_bytes())
    assert header == EXPECTED[name]["header"]
    assert list(block.frames()) == [contract(frame) for frame in EXPECTED[name]["frames"]]
    for text, frame in zip(block.json_frames(), EXPECTED[name]["frames"], strict=True):
        assert int(text.split(b",")[0].removeprefix(b'{"t":').replace(b".", b"")) == int(
            frame["ns"]
        )
        assert json.loads(text) == contract(frame)


@pytest.mark.parametrize("name", GOOD)
def test_the_encoder_writes_them(name: str) -> None:
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    header, block = bin_batch.decode(golden)
    assert bin_batch.encode(header, block) == golden
    packed = FrameBlock.pack(contract(frame) for frame in EXPECTED[name]["frames"])
    assert without_times(packed) == without_times(block)  # as seconds in a float they are not exact


@pytest.mark.parametrize("name", BAD)
def test_the_python_decoder_refuses_what_is_none(name: str) -> None:
    with pytest.raises(BadRequest):
        bin_batch.decode((GOLDEN / f"{name}.bin").read_bytes())


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js: apt-get install nodejs")
def test_the_javascript_decoder_reads_and_refuses_the_same() -> None:
    paths = [str(GOLDEN / f"{name}.bin") for name in EXPECTED]
    clients = ROOT / "shared" / "sat_js"
    result = subprocess.run(
        ["node", str(GOLDEN / "dump.mjs"), str(clients), *paths],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    seen = {Path(path).stem: dump for path, dump in json.loads(result.stdout).items()}
    assert [
        name for name in BAD if not seen[name].get("refused") or not seen[name]["message"]
    ] == []
    for name in GOOD:
        frames = [
            contract(frame) | {"ns": frame["ns"], "right": True}
            for frame in EXPECTED[name]["frames"]
        ]
        assert seen[name] == {
            "header": EXPECTED[name]["header"],
            "frames": frames,
            "copied": False,
        }, name
