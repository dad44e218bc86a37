"""CAN frames packed one after the other: how many of them travel without an object for each. PURE.

A record is little-endian and has the kernel's own layout (``struct can_frame``, ``struct
canfd_frame`` of ``<linux/can.h>``) behind the time of capture:

====== ============ ===== =======================================================================
offset field        type  meaning
====== ============ ===== =======================================================================
0      ``sec``      u32   time of capture, whole seconds since the Unix epoch
4      ``nsec``     u32   and its nanoseconds
8      ``can_id``   u32   arbitration id; bit 31 extended, bit 30 remote, bit 29 error frame
12     ``len``      u8    bytes of data: 0 to 8, of a CAN FD frame 0 to 64; of a remote frame its DLC
13     ``flags``    u8    1 bit rate switch, 2 error state indicator, 4 CAN FD, 128 sent by this host
14     ``reserved`` u8    0
15     ``len8_dlc`` u8    0
16     ``data``     u8[]  8 or 64 bytes; those beyond ``len`` are 0
====== ============ ===== =======================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CLASSIC = 24
FD = 80
EXTENDED, REMOTE, ERROR = 0x8000_0000, 0x4000_0000, 0x2000_0000
BRS, ESI, FDF, TX = 0x01, 0x02, 0x04, 0x80
ID_MASK = 0x1FFF_FFFF
_LAYOUT = {CLASSIC: struct.Struct("<IIIBBxx8s"), FD: struct.Struct("<IIIBBxx64s")}
_ID_FLAGS = ((EXTENDED, "ext"), (REMOTE, "rtr"), (ERROR, "err"))
_FLAGS = ((FDF, "fd"), (BRS, "brs"), (ESI, "esi"), (TX, "tx"))


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Frames in the order of their capture. `size` is that of a record: `CLASSIC` (24) or `FD` (80)
    bytes."""

    records: bytes | memoryview
    size: int = CLASSIC

    def __post_init__(self) -> None:
        if self.size not in _LAYOUT:
            raise ValueError(f"records of {self.size} bytes; {CLASSIC} or {FD} are accepted")
        if len(self.records) % self.size:
            raise ValueError(
                f"{len(self.records)} bytes are no whole number of records of {self.size} bytes"
            )

    def __len__(self) -> int:
        return len(self.records) // self.size

    def __getitem__(self, part: slice) -> FrameBlock:
        """The frames from `part.start` up to `part.stop`; no steps."""
        start, stop, _ = part.indices(len(self))
        return FrameBlock(self.records[start * self.size : stop * self.size], self.size)

    @property
    def t0(self) -> float:
        """When the first frame was captured; 0.0 of an empty block."""
        if not self.records:
            return 0.0
        sec, nsec = struct.unpack_from("<II", self.records)
        return float(sec + nsec / 1e9)

    def stamps(self) -> Iterator[tuple[int, float]]:
        """The ``can_id``, flags included, and the time of each frame."""
        for sec, nsec, can_id, *_ in _LAYOUT[self.size].iter_unpack(self.records):
            yield can_id, sec + nsec / 1e9

    def pick(self, indexes: Iterable[int]) -> FrameBlock:
        """Only the frames at `indexes`."""
        size, records = self.size, self.records
        return FrameBlock(b"".join([records[i * size : (i + 1) * size] for i in indexes]), size)

    def json_frames(self) -> list[bytes]:
        """Each frame as the JSON object of the contract, its time exact to the nanosecond."""
        frames = []
        for sec, nsec, can_id, length, flags, data in _LAYOUT[self.size].iter_unpack(self.records):
            text = f'{{"t":{sec}.{nsec:09d},"id":{can_id & ID_MASK}'
            if can_id > ID_MASK or flags:
                text += "".join(f',"{name}":true' for bit, name in _ID_FLAGS if can_id & bit)
                text += "".join(f',"{name}":true' for bit, name in _FLAGS if flags & bit)
            if can_id & REMOTE:
                frames.append(f'{text},"dlc":{length},"data":""}}'.encode())
            else:
                frames.append(f'{text},"data":"{data[:length].hex()}"}}'.encode())
        return frames

    def frames(self) -> Iterator[dict[str, Any]]:
        """Each frame as a dict of the contract: ``t id ext rtr err fd brs esi tx dlc data``, false
        flags left out."""
        for sec, nsec, can_id, length, flags, data in _LAYOUT[self.size].iter_unpack(self.records):
            frame: dict[str, Any] = {"t": sec + nsec / 1e9, "id": can_id & ID_MASK}
            frame.update((name, True) for bit, name in _ID_FLAGS if can_id & bit)
            frame.update((name, True) for bit, name in _FLAGS if flags & bit)
            if can_id & REMOTE:
                frame |= {"dlc": length, "data": ""}
            else:
                frame["data"] = data[:length].hex()
            yield frame

    @classmethod
    def pack(cls, frames: Iterable[Mapping[str, Any]]) -> FrameBlock:
        """Frames of the contract, each as from `frames()`; in records of 80 bytes as soon as one is
        CAN FD.

        Raises:
            ValueError: a frame has no form as a record; the message says which and why.
        """
        parts = []
        for index, frame in enumerate(frames):
            try:
                parts.append(_fields(frame))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"frame {index}: {type(error).__name__}: {error}") from None
        size = FD if any(flags & FDF for *_, flags, _ in parts) else CLASSIC
        layout = _LAYOUT[size]
        return cls(b"".join([layout.pack(*part) for part in parts]), size)


def _fields(frame: Mapping[str, Any]) -> tuple[int, int, int, int, int, bytes]:
    can_id = int(frame["id"])
    if not 0 <= can_id <= ID_MASK:
        raise ValueError(f"id {can_id:#x}; 0 to {ID_MASK:#x} is accepted")
    can_id |= sum(bit for bit, name in _ID_FLAGS if frame.get(name))
    flags = sum(bit for bit, name in _FLAGS if frame.get(name))
    data = frame.get("data", b"")
    data = bytes.fromhex(data) if isinstance(data, str) else bytes(data)
    most = 64 if flags & FDF else 8
    length = int(frame.get("dlc", 0)) if can_id & REMOTE else len(data)
    if length > most or len(data) > most:
        raise ValueError(f"{max(length, len(data))} bytes of data; at most {most} are accepted")
    t = float(frame.get("t", 0.0))
    sec = int(t // 1.0)
    more, nsec = divmod(round((t - sec) * 1e9), 1_000_000_000)
    sec += more
    if not 0 <= sec < 1 << 32:
        raise ValueError(f"t {sec}: seconds since 1970, before 2106")
    return sec, nsec, can_id, length, flags, data
