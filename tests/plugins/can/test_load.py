"""How many bits frames take, and what a bus's load is."""

from __future__ import annotations

import random

import pytest

from plugins.devices.can.links import CanLink
from plugins.devices.can.load import FrameKinds, Mix, bus_load
from plugins.devices.can.monitor import LoadMeter
from sat_toolkit.core.frame_block import FrameBlock

CRC = 0x4599


def classic_bits(number: int, data: bytes, extended: bool = False) -> int:
    """The length of a classic data frame with its gap, bit by bit as on the wire."""
    header = (
        f"0{number >> 18:011b}11{number & 0x3FFFF:018b}000" if extended else f"0{number:011b}000"
    )
    bits = header + f"{len(data):04b}" + "".join(f"{byte:08b}" for byte in data)
    crc = 0
    for bit in bits:
        crc = (crc << 1 & 0x7FFF) ^ (CRC if int(bit) ^ (crc >> 14) else 0)
    bits += f"{crc:015b}"
    run, last, stuffed = 0, "", 0
    for bit in bits:
        run = run + 1 if bit == last else 1
        last = bit
        if run == 5:
            stuffed += 1
            last, run = "10"[int(bit)], 1
    return len(bits) + stuffed + 13


@pytest.mark.parametrize("extended", [False, True])
def test_the_bits_of_random_frames_lie_where_they_are_said_to(extended: bool) -> None:
    chance = random.Random(4)
    frames = [
        (chance.getrandbits(29 if extended else 11), chance.randbytes(chance.randrange(9)))
        for _ in range(3000)
    ]
    bits = sum(classic_bits(number, data, extended) for number, data in frames)
    payload = sum(len(data) for _, data in frames)
    load = bus_load(len(frames), payload, 1.0, 500_000, mix=Mix(extended=float(extended)))
    percent = 100 * bits / 500_000
    assert load.percent == pytest.approx(percent, rel=0.02)
    assert percent < load.percent_max < 1.3 * percent


def test_a_frame_that_is_stuffed_most_takes_the_most() -> None:
    assert classic_bits(0, bytes(8)) <= 47 + 64 + (34 + 64 - 1) / 4
    assert bus_load(1000, 8000, 1.0, 1_000_000).percent_max == pytest.approx(
        (47 + 64 + 97 / 4) / 10, abs=0.06
    )


def test_can_fd_takes_less_time_where_it_switches_the_rate() -> None:
    slow = bus_load(1000, 64_000, 1.0, 500_000, 2_000_000, Mix(fd=1.0))
    fast = bus_load(1000, 64_000, 1.0, 500_000, 2_000_000, Mix(fd=1.0, brs=1.0))
    assert slow.percent == pytest.approx(100 * (29 + 550 + 534 / 30) / 500, rel=0.01)
    assert fast.percent == pytest.approx(
        100 * ((29 + 17 / 30) / 500 + (550 + 517 / 30) / 2000), rel=0.01
    )


def test_nothing_is_no_load() -> None:
    load = bus_load(0, 0, 1.0, 500_000)
    assert (load.percent, load.percent_max) == (0.0, 0.0)


def test_kinds_are_counted_by_the_columns_of_a_block() -> None:
    kinds, before = FrameKinds(), FrameKinds()
    assert kinds.mix_since(before) is None
    kinds.add(
        FrameBlock.pack(
            [{"t": 1.0, "id": 1, "data": ""}, {"t": 1.0, "id": 2, "ext": True, "data": "00"}]
        )
    )
    assert kinds.mix_since(before) == Mix(extended=0.5)
    before = kinds.copy()
    fd = {"t": 1.0, "id": 3, "fd": True, "data": "00" * 12}
    kinds.add(FrameBlock.pack([fd, fd, fd | {"brs": True}, {"t": 1.0, "id": 1, "data": ""}]))
    assert kinds.mix_since(before) == Mix(fd=0.75, brs=0.25)


def test_the_meter_takes_the_kernels_sums_over_a_second_at_least() -> None:
    kinds = FrameKinds()
    meter = LoadMeter(kinds)

    def look(now: float, frames: int, payload: int, bitrate: int | None = 500_000) -> float | None:
        meter.look(
            CanLink("can0", "can", True, False, "", bitrate, frames=frames, payload=payload), now
        )
        return None if meter.load is None else meter.load.percent

    assert look(0.0, 1000, 8000) is None
    assert look(0.5, 1500, 12_000) is None
    half = look(2.0, 3000, 24_000)
    assert half == bus_load(2000, 16_000, 2.0, 500_000).percent
    assert meter.frames_per_s == 1000.0
    kinds.add(FrameBlock.pack([{"t": 1.0, "id": 2, "ext": True, "data": ""}]))
    extended = look(4.0, 5000, 40_000)
    assert extended == bus_load(2000, 16_000, 2.0, 500_000, mix=Mix(extended=1.0)).percent
    assert look(6.0, 7000, 56_000) == extended, "nothing was read: the mix is still that of before"
    assert look(7.0, 0, 0) == extended, "the link's sums began anew"
    assert look(8.0, 0, 0) == 0.0
    assert look(9.0, 10, 80, bitrate=None) is None
