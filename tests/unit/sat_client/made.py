"""Batches as tests of the client make them."""

from __future__ import annotations

from typing import Any

from sat_bus.contract import bin_batch
from sat_bus.contract import messages as m
from sat_toolkit.core.frame_block import FrameBlock


def batch(seq: int, n: int, stream: str = "s1", boot: str = "b1", **dropped: int) -> m.JsonBatch:
    frames = [{"t": 1.0 + i, "id": seq + i, "data": ""} for i in range(n)]
    return m.JsonBatch(
        stream=stream,
        boot=boot,
        seq=seq,
        n=n,
        t0=1.0,
        dropped=dropped,
        channel="ecu",
        frames=frames,
    )


def packed(seq: int, n: int, **dropped: Any) -> bytes:
    plain = batch(seq, n, **dropped).model_dump()
    return bin_batch.encode(plain, FrameBlock.pack(plain.pop("frames")))
