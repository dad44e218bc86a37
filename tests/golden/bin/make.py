"""Write the golden batches beside this file: what they mean as JSON, and their bytes.

The bytes are put together here by ``struct`` alone, so that they test the encoder and the decoders
alike and do not move with them. A batch without ``frames`` in its JSON is one that every decoder
refuses.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_T = 1_760_000_000
_FLAGS = {"ext": 0x8000_0000, "rtr": 0x4000_0000, "err": 0x2000_0000}
_FRAME_FLAGS = {"fd": 4, "brs": 1, "esi": 2, "tx": 0x80}

Frame = dict[str, Any]


def frame(ns: int, can_id: int, data: str = "", dlc: int | None = None, **flags: bool) -> Frame:
    """A frame as its golden JSON has it: of the contract, with the time in nanoseconds beside
    it."""
    made: Frame = {"ns": str(_T * 10**9 + ns), "id": can_id, **flags, "data": data}
    return made if dlc is None else {**made, "dlc": dlc}


def record(one: Frame, size: int) -> bytes:
    """A frame as it lies in a batch."""
    sec, nsec = divmod(int(one["ns"]), 10**9)
    data = bytes.fromhex(one["data"])
    can_id = one["id"] | sum(bit for name, bit in _FLAGS.items() if one.get(name))
    flags = sum(bit for name, bit in _FRAME_FLAGS.items() if one.get(name))
    return struct.pack(
        f"<IIIBBBB{size - 16}s", sec, nsec, can_id, one.get("dlc", len(data)), flags, 0, 0, data
    )


def payload(
    header: dict[str, Any] | bytes, records: bytes, *, magic: bytes = b"SATF", version: int = 1
) -> bytes:
    text = (
        header
        if isinstance(header, bytes)
        else json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    )
    text += b" " * (-len(text) % 8)
    return magic + struct.pack("<BBH", version, 0, len(text)) + text + records


def header(n: int, size: int, **more: Any) -> dict[str, Any]:
    said = {
        "stream": "5f0c2a91d3e7",
        "seq": 4096,
        "n": n,
        "t0": float(_T),
        "dropped": {},
        "channel": "can0",
    }
    return said | {"size": size, "boot": "1760000000000-5fd2"} | more


GOOD: dict[str, tuple[list[Frame], int, dict[str, Any]]] = {
    "classic": ([frame(0, 0x123, "deadbeef"), frame(1, 0x7FF, "0001020304050607"), frame(2, 0)], 24, {}),
    "extended": ([frame(0, 0x1ABCDEF0, "01", ext=True), frame(1, 0x123, "02", ext=True)], 24, {}),
    "remote": ([frame(0, 0x123, dlc=8, rtr=True), frame(1, 0x1FFFFFFF, dlc=0, ext=True, rtr=True)], 24, {}),
    "error": ([frame(0, 0x44, "0000000000008000", err=True)], 24, {}),
    "fd": (
        [
            frame(0, 0x100, bytes(range(64)).hex(), fd=True, brs=True, esi=True),
            frame(1, 0x18DAF110, "ff" * 12, ext=True, fd=True),
            frame(2, 0x101, "11", fd=True, brs=True, tx=True),
            frame(3, 0x102, "22" * 8),
        ],
        80,
        {},
    ),
    "echo": ([frame(0, 0x200, "aa", tx=True), frame(1, 0x200, "aa")], 24, {}),
    "empty": ([], 24, {"dropped": {"kernel": 7, "frames_full": 1024}, "thinned": 12}),
    "unicode": ([frame(0, 1, "00")], 24, {"channel": "Prüfstand 3 \"links\" \u4e2d \U0001f69a", "seq": 2**40}),
    "nanoseconds": ([frame(1, 1), frame(999_999_999, 2), frame((2**32 - 1 - _T) * 10**9 + 123_456_789, 3)], 24, {}),
}  # fmt: skip

_ONE = record(frame(0, 1, "00"), 24)
BAD: dict[str, bytes] = {
    "bad-magic": payload(header(1, 24), _ONE, magic=b"SATX"),
    "bad-version": payload(header(1, 24), _ONE, version=2),
    "bad-short": b"SATF\x01\x00",
    "bad-header-beyond-the-end": payload(header(1, 24), _ONE)[:64],
    "bad-header-too-long": payload(header(0, 24, channel="x" * 16_384), b""),
    "bad-header-no-json": payload(b"{'n': 1}", _ONE),
    "bad-header-no-object": payload(b"[1, 24]", _ONE),
    "bad-header-no-utf-8": payload(
        json.dumps(header(1, 24)).encode().replace(b"can0", b"can\xff"), _ONE
    ),
    "bad-header-nan": payload(b'{"n": 1, "size": 24, "t0": NaN}', _ONE),
    "bad-size": payload(header(1, 32), _ONE + bytes(8)),
    "bad-no-size": payload({"n": 1}, _ONE),
    "bad-n-too-many": payload(header(2, 24), _ONE),
    "bad-n-too-few": payload(header(1, 24), _ONE * 2),
    "bad-n-true": payload(header(1, 24) | {"n": True}, _ONE),
    "bad-part-of-a-record": payload(header(1, 24), _ONE + b"\0"),
}


def files() -> dict[str, bytes]:
    """Every golden file by its name."""
    made: dict[str, bytes] = {}
    for name, (frames, size, more) in GOOD.items():
        said = header(len(frames), size, **more)
        made[f"{name}.bin"] = payload(said, b"".join(record(one, size) for one in frames))
        made[f"{name}.json"] = _text({"header": said, "frames": frames})
    for name, content in BAD.items():
        made[f"{name}.bin"] = content
        made[f"{name}.json"] = _text({"refused": True})
    return made


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


if __name__ == "__main__":
    for path in (*HERE.glob("*.bin"), *HERE.glob("*.json")):
        path.unlink()
    for name, content in files().items():
        (HERE / name).write_bytes(content)
    sys.stdout.write(f"{len(files())} files in {HERE}\n")
