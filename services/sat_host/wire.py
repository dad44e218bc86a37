"""How a host and its workers talk over a socketpair: the messages of `wire_messages` as bytes, no
pickle. PURE.

A message is a 4-byte big-endian length of what follows, a byte that says which message, and a body:
the fields as a JSON object. The body of a call begins with its number, 4 bytes. Two carry frames,
which nobody reads on the way: a block that a client sends to a device, and a batch of a stream.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import orjson

from sat_host.wire_messages import (
    Acquiring,
    AcquisitionFailed,
    Answer,
    Asked,
    BatchHeader,
    Call,
    Configure,
    Describe,
    Down,
    DriverReported,
    EventsDropped,
    Exit,
    Halt,
    HardwareChanged,
    InputFailed,
    Ping,
    Pong,
    Refusal,
    RunCommand,
    RunHook,
    Scan,
    SendFrames,
    StreamBatch,
    StreamChanged,
    TakeInput,
    Up,
)
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.plain_json import dumps
from sat_toolkit.core.stream_manager import StreamType

MessageT = TypeVar("MessageT")
MAX_MESSAGE = 1_048_576

# The byte that says which message.
DOWN: dict[int, type] = {
    0: Configure,
    1: Describe,
    2: Scan,
    3: RunHook,
    4: RunCommand,
    5: SendFrames,
    6: TakeInput,
    7: Halt,
    8: Ping,
    9: Exit,
}
UP: dict[int, type] = {
    32: Answer,
    33: Refusal,
    34: Pong,
    35: HardwareChanged,
    36: Acquiring,
    37: StreamChanged,
    38: AcquisitionFailed,
    39: InputFailed,
    40: DriverReported,
    41: EventsDropped,
    42: StreamBatch,
}
_TAG_OF = {kind: tag for tag, kind in (DOWN | UP).items()}
_CALLS = get_args(Call)
_KINDS = tuple(kind.value for kind in StreamType)
_FORMS = ("json", "bin")
_COUNTS = frozenset({int})
_LONG_NUMBER = re.compile(rb"[0-9]{19}")

_PREFIX = struct.Struct(">IB")  # length, tag
_NUMBER = struct.Struct(">I")  # of a call
_BLOCK = struct.Struct(">IB")  # number of the call, bytes of a record
_BATCH = struct.Struct(">IBBHHI")  # n, kind, form; where run_id, dropped and text end


class WireError(Exception):
    """The peer sent what is no message; the connection is of no more use."""


def encode(message: Down | Up) -> bytes:
    """`message` as bytes.

    Raises:
        WireError: it is larger than MAX_MESSAGE.
        TypeError: it holds something JSON has no form for.
    """
    if isinstance(message, StreamBatch):
        return encode_batch(message.header, message.frames)
    if not isinstance(message, Asked):
        return _framed(type(message), _json(message))
    request = message.request
    if isinstance(request, SendFrames):
        block = request.block
        return _framed(SendFrames, _BLOCK.pack(message.call, block.size), block.records)
    return _framed(type(request), _NUMBER.pack(message.call), _json(request))


def encode_batch(header: BatchHeader, frames: bytes | memoryview) -> bytes:
    """A `StreamBatch` as bytes.

    Raises:
        WireError: it is larger than MAX_MESSAGE, or its header is too large.
    """
    run_id, dropped = header.run_id.encode(), orjson.dumps(header.dropped)
    kind, form = _KINDS.index(header.kind), _FORMS.index(header.form)
    first = _BATCH.size + len(run_id)
    second = first + len(dropped)
    third = second + len(header.text)
    try:
        fixed = _BATCH.pack(header.n, kind, form, first, second, third)
    except struct.error as error:
        raise WireError(f"the header of a batch is too large: {error}") from None
    prefix = _prefix(StreamBatch, third + len(frames))
    return b"".join((prefix, fixed, run_id, dropped, header.text, frames))


class Decoder(Generic[MessageT]):
    """Bytes in, whole messages out. `accepted`: those that this end takes, `DOWN` or `UP`."""

    def __init__(self, accepted: Mapping[int, type]) -> None:
        self._accepted = accepted
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[MessageT]:
        """The messages that `data` completes.

        Raises:
            WireError: it is not a message; what is wrong with it.
        """
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            length, tag = _PREFIX.unpack_from(self._buffer)
            kind = self._accepted.get(tag)
            if not 1 <= length <= MAX_MESSAGE or kind is None:
                raise WireError(f"bad prefix: length {length}, tag {tag}")
            end = 4 + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[_PREFIX.size : end])
            del self._buffer[:end]
            yield _decoded(kind, body)


def read(hint: Any, value: Any, where: str) -> Any:
    """`value`, which is plain JSON, as the type `hint`: a message, a collection or a plain type.

    Raises:
        WireError: it is something else; `where` says what was to be read.
    """
    if type(value) in _plain(hint):
        return value
    for option in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        origin, args = get_origin(option), get_args(option)
        if isinstance(value, dict):
            if is_dataclass(option):
                return _message(option, value, where)  # type: ignore[arg-type]
            if origin in (dict, Mapping):
                return {k: read(args[1], item, f"{where}.{k}") for k, item in value.items()}
        elif isinstance(value, list) and origin in (list, tuple):
            return origin(read(args[0], item, f"{where}[{n}]") for n, item in enumerate(value))
        elif isinstance(value, str) and isinstance(option, type) and issubclass(option, StrEnum):
            if value in tuple(option):
                return option(value)
            raise WireError(f"{where}: {value[:80]!r} is not a {option.__name__}")
    wanted = hint.__name__ if isinstance(hint, type) else hint
    raise WireError(f"{where}: {wanted} is needed, this is {type(value).__name__}")


# -- out -------------------------------------------------------------------------------------------


def _json(message: Any) -> bytes:
    try:
        return orjson.dumps(message)
    except TypeError:  # perhaps for an integer beyond 64 bits, which clients may send
        return dumps(asdict(message))


def _framed(kind: type, *parts: bytes | memoryview) -> bytes:
    return b"".join((_prefix(kind, sum(map(len, parts))), *parts))


def _prefix(kind: type, size: int) -> bytes:
    if size >= MAX_MESSAGE:
        raise WireError(f"message of {size + 1} bytes; at most {MAX_MESSAGE} are accepted")
    return _PREFIX.pack(size + 1, _TAG_OF[kind])


# -- in --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    hint: Any
    plain: tuple[type, ...]
    required: bool


def _decoded(kind: type, body: bytes) -> Any:
    if kind is StreamBatch:
        return _batch(body)
    if kind is SendFrames:
        return _block(body)
    if kind in _CALLS:
        if len(body) < _NUMBER.size:
            raise WireError(f"{kind.__name__}: its number is cut off")
        (number,) = _NUMBER.unpack_from(body)
        return Asked(number, _message(kind, _loaded(kind, body[_NUMBER.size :]), kind.__name__))
    return _message(kind, _loaded(kind, body), kind.__name__)


def _loaded(kind: type, body: bytes) -> dict[str, Any]:
    try:
        value = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{kind.__name__}: {error}") from None
    if not isinstance(value, dict):
        raise WireError(f"{kind.__name__}: an object is needed, this is {type(value).__name__}")
    return value


def _parsed(body: bytes) -> Any:
    """The JSON value in `body`. Only the slower parser is exact for integers beyond 64 bits, which
    clients may send, and takes half a surrogate, which a configuration may hold."""
    if not _LONG_NUMBER.search(body):
        try:
            return orjson.loads(body)
        except ValueError:
            pass
    return json.loads(body)


def _message(kind: type, values: dict[str, Any], where: str) -> Any:
    found: dict[str, Any] = {}
    for field in _fields(kind):
        if field.name in values:
            value = values[field.name]
            if type(value) not in field.plain:
                value = read(field.hint, value, f"{where}.{field.name}")
            found[field.name] = value
        elif field.required:
            raise WireError(f"{where}: {field.name} is missing")
    if len(found) < len(values):
        raise WireError(f"{where}: {', '.join(values.keys() - found.keys())} is unknown")
    return kind(**found)


def _batch(body: bytes) -> StreamBatch:
    try:
        n, kind, form, first, second, third = _BATCH.unpack_from(body)
        if not _BATCH.size <= first <= second <= third <= len(body):
            raise ValueError("its header is cut off")
        dropped = orjson.loads(body[first:second])
        run_id = body[_BATCH.size : first].decode()
        name, form_name = _KINDS[kind], _FORMS[form]
    except (struct.error, IndexError, ValueError) as error:
        raise WireError(f"StreamBatch: {error}") from None
    if type(dropped) is not dict or not _COUNTS.issuperset(map(type, dropped.values())):
        dropped = read(dict[str, int], dropped, "StreamBatch.dropped")
    header = BatchHeader(name, form_name, run_id, n, dropped, body[second:third])
    return StreamBatch(header, body[third:])


def _block(body: bytes) -> Asked:
    try:
        number, size = _BLOCK.unpack_from(body)
        return Asked(number, SendFrames(FrameBlock(body[_BLOCK.size :], size)))
    except (struct.error, ValueError) as error:
        raise WireError(f"SendFrames: {error}") from None


@cache
def _fields(kind: type) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _Field(f.name, hints[f.name], _plain(hints[f.name]), f.default is MISSING)
        for f in fields(kind)
    )


@cache
def _plain(hint: Any) -> tuple[type, ...]:
    """The types of JSON values that are what `hint` says as they stand, whatever is in them."""
    if hint is Any:
        return (dict, list, str, int, float, bool, NoneType)
    if isinstance(hint, UnionType):
        return tuple(kind for option in get_args(hint) for kind in _plain(option))
    if hint is float:
        return (float, int)
    if hint in (str, int, bool, NoneType):
        return (hint,)
    return (dict,) if hint == dict[str, Any] else ()
