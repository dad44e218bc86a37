"""A batch of CAN frames in its packed form, `bin`. PURE.

====== ======= ==================================================================================
offset size    content
====== ======= ==================================================================================
0      4       the ASCII letters ``SATF``
4      1       version of this layout, 1
5      1       0
6      2       H, the length of the header, u16 little-endian
8      H       the header: JSON in UTF-8, padded with spaces so that 8 + H is a multiple of 8
8 + H  n * size the records, see `sat_toolkit.core.frame_block`; nothing comes after them
====== ======= ==================================================================================

The header is the JSON batch without its ``frames``, and with ``size``: 24 or 80, the bytes of a
record.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from sat_bus.contract import strict_json
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest

MAGIC = b"SATF"
VERSION = 1
_PREFIX = struct.Struct("<4sBBH")
MAX_HEADER = 16_384
# What a host takes in one batch for a device.
MAX_FRAMES = 4_096
MAX_BYTES = 262_144


def encode(header: Mapping[str, Any], block: FrameBlock) -> bytes:
    """The payload: `header` (``n`` and ``size`` are set here) and the records of `block`.

    Raises:
        ValueError: the header is too large.
    """
    text = strict_json.dumps({**header, "n": len(block), "size": block.size})
    return join(text, block.records)


def join(text: bytes, records: bytes | memoryview) -> bytes:
    """The payload, of a header that is JSON already and has the right ``n`` and ``size``.

    Raises:
        ValueError: the header is too large.
    """
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"a header of {len(text)} bytes; at most {MAX_HEADER} are accepted")
    return b"".join((_PREFIX.pack(MAGIC, VERSION, 0, len(text)), text, records))


def decode(payload: bytes) -> tuple[dict[str, Any], FrameBlock]:
    """The header and the frames of a payload; the records are a view of it, not a copy.

    Raises:
        BadRequest: it is no batch of this version; the message says what is wrong.
    """
    if len(payload) < _PREFIX.size or payload[:4] != MAGIC:
        raise BadRequest(
            "no bin batch: it begins with SATF, version 1, 0 and the length of its header"
        )
    _, version, _, size = _PREFIX.unpack_from(payload)
    if version != VERSION:
        raise BadRequest(f"a bin batch of version {version}; version {VERSION} is accepted")
    begin = _PREFIX.size + size
    if size > MAX_HEADER or begin > len(payload):
        raise BadRequest(
            f"a header of {size} bytes; at most {MAX_HEADER} are accepted, and it is whole"
        )
    header = strict_json.loads(payload[_PREFIX.size : begin])
    if not isinstance(header, dict):
        raise BadRequest("the header of a bin batch is a JSON object")
    n, record = header.get("n"), header.get("size")
    try:
        block = FrameBlock(memoryview(payload)[begin:], record if isinstance(record, int) else 0)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if n != len(block) or isinstance(n, bool):
        raise BadRequest(f"n is {n!r}, and there are {len(block)} records")
    return header, block
