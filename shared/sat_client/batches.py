"""A batch of a stream as a client reads it, from either form of the contract. PURE.

Of a `bin` batch only the header is read; its frames are decoded when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sat_bus.contract import bin_batch, strict_json
from sat_bus.contract import messages as m
from sat_client.gaps import Head
from sat_toolkit.core.frame_block import CLASSIC, FrameBlock
from sat_toolkit.errors import BadRequest
from sat_toolkit.extras import with_extra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FIELDS = ("sec", "nsec", "can_id", "len", "flags", "reserved", "len8_dlc", "data")
_FRAMES = b',"frames":'


@dataclass(frozen=True)
class Batch:
    """Frames of one stream, in the order of their capture.

    Attributes:
        form: ``json`` or ``bin``, as it travelled.
        stream: the stream's id; a start gives it a new one.
        boot: the start of the host that it is of.
        seq: the number of the first frame in the stream; `n` frames follow.
        t0: when the first frame was captured.
        dropped: frames known lost of this stream so far, by cause.
        channel: what the driver calls the device's channel.
        thinned: frames left out so far by ``max_hz``; they have no numbers.
    """

    form: str
    stream: str
    boot: str
    seq: int
    n: int
    t0: float
    dropped: Mapping[str, int]
    channel: str
    thinned: int
    _source: list[dict[str, Any]] | FrameBlock

    @property
    def head(self) -> Head:
        return Head(self.form, self.boot, self.stream, self.seq, self.n, self.dropped)

    @cached_property
    def frames(self) -> list[dict[str, Any]]:
        """The frames as dicts of the contract, ``t id ext rtr err fd brs esi tx dlc data``; false
        flags left out."""
        return list(self._source.frames()) if isinstance(self._source, FrameBlock) else self._source

    @cached_property
    def block(self) -> FrameBlock:
        """The frames packed; of a `bin` batch a view of what arrived.

        Raises:
            ValueError: a frame of a `json` batch is no CAN frame.
        """
        return (
            self._source if isinstance(self._source, FrameBlock) else FrameBlock.pack(self._source)
        )

    def numpy(self) -> npt.NDArray[np.void]:
        """The frames as a structured array with the fields ``sec nsec can_id len flags reserved
        len8_dlc data``; of a `bin` batch a read-only view of what arrived, without a copy.

        Raises:
            ImportError: numpy is not installed.
            ValueError: as `block`.
        """
        try:
            import numpy
        except ImportError:
            raise ImportError(f"batch.numpy() needs numpy: install {with_extra('numpy')}") from None
        block = self.block
        return numpy.frombuffer(block.records, _record(block.size))

    def without_first(self, count: int) -> Batch:
        """The batch without its first `count` frames."""
        if not count:
            return self
        source = self._source[count:]
        t0 = source.t0 if isinstance(source, FrameBlock) else source[0].get("t", self.t0)
        return Batch(
            self.form, self.stream, self.boot, self.seq + count, self.n - count, t0,
            self.dropped, self.channel, self.thinned, source,
        )  # fmt: skip


@cache
def _record(size: int) -> np.dtype[np.void]:
    """A record of `size` bytes as numpy sees it."""
    import numpy

    kinds: list[Any] = ["<u4", "<u4", "<u4", "u1", "u1", "u1", "u1", ("u1", (size - CLASSIC + 8,))]
    return numpy.dtype({"names": _FIELDS, "formats": kinds})


def read_batch(form: str, payload: bytes) -> Batch:
    """The batch in `payload`.

    Raises:
        BadRequest: it is not a batch.
    """
    if form == "json":
        message = m.JsonBatch.decode(payload)
        if message.n != len(message.frames):
            raise BadRequest(f"n is {message.n}, and there are {len(message.frames)} frames")
        return _batch(form, message, message.frames)
    header, block = bin_batch.decode(payload)
    return _batch(form, _header(header), block)


def read_head(form: str, payload: bytes) -> Head:
    """What the batch in `payload` says of itself, without reading its frames where that can be.

    Raises:
        BadRequest: it is no batch.
    """
    if form == "json":
        before, frames, _ = payload.partition(_FRAMES)
        try:  # as hosts write it, the frames stand last
            return _batch(
                form, _header(strict_json.loads(before + b"}" if frames else payload)), []
            ).head
        except BadRequest:
            pass
    return read_batch(form, payload).head


def _header(fields: Any) -> m.JsonBatch:
    if not isinstance(fields, dict):
        raise BadRequest("the header of a batch is a JSON object")
    try:
        return m.JsonBatch.model_validate({**fields, "frames": []})
    except ValidationError as error:
        raise BadRequest(m.explain(error)) from None


def _batch(form: str, said: m.JsonBatch, source: list[dict[str, Any]] | FrameBlock) -> Batch:
    return Batch(
        form,
        said.stream,
        said.boot,
        said.seq,
        said.n,
        said.t0,
        said.dropped,
        said.channel,
        said.thinned,
        source,
    )
