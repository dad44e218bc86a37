"""How full a bus is, by the bits that its frames take. PURE.

Bits of a frame, the gap of three behind it included, with n bytes of data and before bit stuffing:

- classic: 47 + 8 n with a standard id, 67 + 8 n with an extended one; all but 13 of them can be
  stuffed;
- CAN FD: 29 (48) at the bit rate; 8 n and 33, of more than 16 bytes 38, at that of the data, the
  stuff bits of
  fixed places included; what lies before the checksum can be stuffed.

A stuff bit follows at the most every fourth bit, and about every thirtieth in random data. Which is
true of a bus nobody knows who counts frames, so both are given; a bus's own lies between them as a
rule. The time of error frames, of repeated frames and of what other filters of the controller hide
is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sat_toolkit.core.frame_block import FD, FrameBlock

TYPICAL_STUFFING: Final = 1 / 30
WORST_STUFFING: Final = 1 / 4
_EXTENDED_BITS: Final = 20
_TAIL: Final = 13  # from the checksum's delimiter to the gap


@dataclass(frozen=True)
class Mix:
    """Of which kinds the frames of a bus are: how large a part has an extended id, is CAN FD,
    switches the rate."""

    extended: float = 0.0
    fd: float = 0.0
    brs: float = 0.0


@dataclass(frozen=True)
class Load:
    """How full a bus was, in percent: with the stuffing of random data, and with the most there can
    be."""

    percent: float
    percent_max: float


class FrameKinds:
    """Sums of frames by kind, fed by one thread a block at a time; no work for each frame."""

    def __init__(self) -> None:
        self.frames = self.extended = self.fd = self.brs = 0

    def add(self, block: FrameBlock) -> None:
        """Count a block by its columns: the highest byte of ``can_id``, and where there are CAN FD
        frames the flags."""
        records = memoryview(block.records)
        tops = records[11 :: block.size].tobytes()
        self.frames += len(tops)
        self.extended += tops.translate(_EXTENDED).count(1)
        if block.size == FD:
            flags = records[13 :: block.size].tobytes()
            self.fd += flags.translate(_FD).count(1)
            self.brs += flags.translate(_BRS).count(1)

    def mix_since(self, before: FrameKinds) -> Mix | None:
        """The mix of what was counted since the copy `before` was made; None if that is nothing."""
        n = self.frames - before.frames
        if n <= 0:
            return None
        return Mix(
            (self.extended - before.extended) / n,
            (self.fd - before.fd) / n,
            (self.brs - before.brs) / n,
        )

    def copy(self) -> FrameKinds:
        """These sums as they are now."""
        twin = FrameKinds()
        twin.frames, twin.extended, twin.fd, twin.brs = (
            self.frames,
            self.extended,
            self.fd,
            self.brs,
        )
        return twin


def bus_load(
    frames: int,
    payload: int,
    seconds: float,
    bitrate: int,
    data_bitrate: int | None = None,
    mix: Mix | None = None,
) -> Load:
    """The load by `frames` with `payload` bytes of data together within `seconds`."""
    mix = mix or Mix()
    mean = payload / frames if frames else 0.0
    share = mix.brs if data_bitrate else 0.0
    percents = []
    for stuffing in (TYPICAL_STUFFING, WORST_STUFFING):
        classic = sum(_classic_bits(mean, mix.extended, stuffing))
        slow, fast = _fd_bits(mean, mix.extended, stuffing)
        switched = slow / bitrate + fast / (data_bitrate or bitrate)
        unswitched = (slow + fast) / bitrate
        each = (1 - mix.fd) * classic / bitrate + share * switched + (mix.fd - share) * unswitched
        percents.append(round(100 * frames * each / seconds, 1))
    return Load(*percents)


def _classic_bits(mean: float, extended: float, stuffing: float) -> Iterable[float]:
    stuffable = 34 + _EXTENDED_BITS * extended + 8 * mean
    return stuffable, _TAIL, (stuffable - 1) * stuffing


def _fd_bits(mean: float, extended: float, stuffing: float) -> tuple[float, float]:
    """At the bit rate, and at that of the data."""
    head = 17 + (_EXTENDED_BITS - 1) * extended
    checksum = 28 if mean <= 16 else 33
    return head * (1 + stuffing) + 12, (5 + 8 * mean) * (1 + stuffing) + checksum


_EXTENDED: Final = bytes(byte >> 7 for byte in range(256))
_FD: Final = bytes(byte >> 2 & 1 for byte in range(256))
_BRS: Final = bytes(byte & 1 for byte in range(256))
