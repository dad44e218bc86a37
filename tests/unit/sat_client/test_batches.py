"""A batch as a client reads it, from either form."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sat_bus.contract import bin_batch
from sat_client.batches import read_batch
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest
from tests.unit.sat_client.made import batch, packed


def test_a_packed_batch_is_a_numpy_array_without_a_copy() -> None:
    frames = [
        {"t": 1.5, "id": 0x123, "data": "0102"},
        {"t": 2.25, "id": 0x1ABCDEF0, "ext": True, "data": "ff"},
        {"t": 3.0, "id": 1, "fd": True, "brs": True, "data": "07" * 64},
    ]
    plain = batch(0, 3).model_dump(exclude={"frames"})
    for some, size in ((frames[:2], 24), (frames, 80)):
        payload = bin_batch.encode(plain | {"n": len(some)}, FrameBlock.pack(some))
        array = read_batch("bin", payload).numpy()
        assert array.dtype.itemsize == size
        assert np.shares_memory(array, np.frombuffer(payload, "u1"))
        assert not array.flags.writeable
        assert array["can_id"].tolist()[:2] == [0x123, 0x9ABCDEF0]
        assert (array["sec"] + array["nsec"] / 1e9).tolist()[:2] == [1.5, 2.25]
        assert array["len"].tolist()[:2] == [2, 1]
        assert array["data"][0, :3].tolist() == [1, 2, 0]
    assert array["flags"].tolist() == [0, 0, 5]
    assert array["data"][2].tolist() == [7] * 64


def test_a_json_batch_is_a_numpy_array_too_where_it_has_can_frames() -> None:
    assert read_batch("json", batch(4, 3).encode()).numpy()["can_id"].tolist() == [4, 5, 6]
    text = batch(0, 1).model_copy(update={"frames": [{"t": 1.0, "data": "login:"}]})
    with pytest.raises(ValueError, match="frame 0"):
        read_batch("json", text.encode()).numpy()


def test_an_empty_batch_is_an_empty_array() -> None:
    assert read_batch("bin", packed(7, 0)).numpy().shape == (0,)


def test_without_numpy_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match=r"install sat-rack\[numpy\]"):
        read_batch("bin", packed(0, 1)).numpy()


def test_frames_of_a_packed_batch_are_decoded_once_and_only_when_asked_for() -> None:
    one = read_batch("bin", packed(0, 2))
    assert "frames" not in vars(one)
    assert one.frames is one.frames


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        ("json", batch(0, 2).encode().replace(b'"n":2', b'"n":3')),
        ("json", b"[]"),
        ("bin", packed(0, 2)[:-1]),
        ("bin", bin_batch.encode({"n": 0}, FrameBlock(b""))),
        ("bin", b""),
    ],
)
def test_what_is_no_batch_is_refused(form: str, payload: bytes) -> None:
    with pytest.raises(BadRequest):
        read_batch(form, payload)
