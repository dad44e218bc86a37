"""Bytes of a serial line as frames of the stream `uart`, and back. No I/O, no clock.

A frame's `data` is text where the bytes are UTF-8 without control characters other than tab, line
feed, carriage return and escape, and lower-case hex otherwise; ``metadata["encoding"]`` says which:
``utf-8`` or ``hex``. In lines the end of line is no part of `data` but stands in
``metadata["eol"]``: a line feed, a carriage return with line feed, or nothing for a piece that was
cut because the line paused or grew too long. So no byte is ever lost: `frame_bytes` of all frames
in a row is what the line carried.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

TEXT: Final = "utf-8"
HEX: Final = "hex"
LINES: Final = "lines"
RAW: Final = "raw"
NEWLINES: Final = {"none": b"", "lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}

_TEXT_CONTROLS: Final = frozenset("\t\n\r\x1b")


@dataclass(frozen=True)
class Framing:
    """How the stream is cut: `kind` ``lines`` or ``raw``; for lines the longest line in bytes, its
    end apart, and the silence in seconds after which a line begun is sent as it is."""

    kind: str = LINES
    max_length: int = 4096
    idle: float = 0.2

    def framer(self) -> Framer:
        return LineFramer(self.max_length, self.idle) if self.kind == LINES else RawFramer()


@dataclass(frozen=True)
class Piece:
    """One frame to be: the time of its first byte (seconds since the epoch), its bytes, its end of
    line.

    `eol` is None where there are no lines.
    """

    timestamp: float
    data: bytes
    eol: bytes | None = None

    @property
    def payload(self) -> tuple[str, dict[str, Any]]:
        """The frame's `data` and `metadata`."""
        text, encoding = encode(self.data)
        metadata = {"encoding": encoding, "direction": "rx"}
        if self.eol is not None:
            metadata["eol"] = self.eol.decode("ascii")
        return text, metadata


class Framer(Protocol):
    """Cuts what it is fed into pieces; `now` is any clock that does not jump, in seconds."""

    def feed(self, timestamp: float, chunk: bytes, now: float) -> list[Piece]:
        """The pieces that `chunk`, read at `timestamp`, completes."""

    def due(self, now: float) -> list[Piece]:
        """The piece that has waited long enough for its end."""

    def flush(self) -> list[Piece]:
        """What is left."""


class RawFramer:
    """Each chunk a piece."""

    def feed(self, timestamp: float, chunk: bytes, now: float) -> list[Piece]:  # noqa: ARG002 - the protocol's
        return [Piece(timestamp, chunk)]

    def due(self, now: float) -> list[Piece]:  # noqa: ARG002 - the protocol's
        return []

    def flush(self) -> list[Piece]:
        return []


class LineFramer:
    """Each line a piece. Holds at most `max_length` bytes and a carriage return."""

    def __init__(self, max_length: int, idle: float) -> None:
        self._max_length = max_length
        self._idle = idle
        self._rest = b""
        self._since = 0.0  # when the first byte of the rest was read
        self._last = 0.0  # when its last byte came, on the caller's clock

    def feed(self, timestamp: float, chunk: bytes, now: float) -> list[Piece]:
        begun = self._since if self._rest else timestamp
        text, start = self._rest + chunk, 0
        pieces: list[Piece] = []
        while start < len(text):
            end, eol = self._cut(text, start)
            if end is None:
                break
            pieces.append(Piece(timestamp if pieces else begun, text[start:end], eol))
            start = end + len(eol)
        self._rest = text[start:]
        self._since = timestamp if pieces else begun
        self._last = now
        return pieces

    def due(self, now: float) -> list[Piece]:
        return self.flush() if self._rest and now - self._last >= self._idle else []

    def flush(self) -> list[Piece]:
        rest, self._rest = self._rest, b""
        return [Piece(self._since, rest, b"")] if rest else []

    def _cut(self, text: bytes, start: int) -> tuple[int | None, bytes]:
        """Where the line from `start` ends, and its end of line; None where it goes on."""
        feed = text.find(b"\n", start, start + self._max_length + 2)
        if feed >= 0:
            end = feed - 1 if feed > start and text[feed - 1] == 0x0D else feed
            if end - start <= self._max_length:
                return end, text[end : feed + 1]
        # One byte more may be the carriage return of a line that fits.
        if len(text) - start > self._max_length + 1 or feed >= 0:
            return start + self._max_length, b""
        return None, b""


def encode(data: bytes) -> tuple[str, str]:
    """Bytes as text with the name of its encoding; `decode` gives the same bytes back."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data.hex(), HEX
    if any(unicodedata.category(char) == "Cc" and char not in _TEXT_CONTROLS for char in text):
        return data.hex(), HEX
    return text, TEXT


def decode(text: str, encoding: str) -> bytes:
    """The bytes of a text. Raises ValueError, which says what is accepted."""
    if encoding == TEXT:
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"the text is no UTF-8: {error.reason}") from None
    if encoding != HEX:
        raise ValueError(f'encoding must be "{TEXT}" or "{HEX}", not {encoding!r}')
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(
            f'hex must be pairs of hex digits such as "de ad be ef", not {text[:40]!r}'
        ) from None


def frame_bytes(data: str, metadata: Mapping[str, Any] | None) -> bytes:
    """The bytes of a frame, its end of line included. Raises ValueError."""
    metadata = metadata or {}
    eol = metadata.get("eol", "")
    if eol not in ("", "\n", "\r\n"):
        raise ValueError(
            f"eol must be a line feed, with or without a carriage return, or nothing, not {eol!r}"
        )
    return decode(data, metadata.get("encoding", TEXT)) + decode(eol, TEXT)


def message_bytes(text: str | None, hexadecimal: str | None, newline: str = "none") -> bytes:
    """The bytes that ``text`` or ``hex`` of a request stands for, with its end of line. Raises
    ValueError."""
    if (text is None) == (hexadecimal is None):
        raise ValueError("exactly one of text and hex is needed")
    data = decode(text, TEXT) if text is not None else decode(hexadecimal or "", HEX)
    return data + NEWLINES[newline]


def client_bytes(data: object, metadata: Mapping[str, Any] | None) -> bytes:
    """The bytes of what a client sent: text, ``{"text"}`` or ``{"hex"}`` with ``newline``, or a
    frame of the stream.

    Raises ValueError, which says what is accepted.
    """
    if isinstance(data, str):
        return frame_bytes(data, metadata)
    if isinstance(data, Mapping):
        if isinstance(data.get("data"), str) and isinstance(data.get("metadata", {}), Mapping):
            return frame_bytes(data["data"], data.get("metadata"))
        text, hexadecimal, newline = data.get("text"), data.get("hex"), data.get("newline", "none")
        kinds_fit = isinstance(text, str | None) and isinstance(hexadecimal, str | None)
        if (
            kinds_fit
            and isinstance(newline, str)
            and newline in NEWLINES
            and (text is None) != (hexadecimal is None)
        ):
            return message_bytes(text, hexadecimal, newline)
    raise ValueError(
        'accepted: {"text": "help", "newline": "lf"}, {"hex": "de ad"}, a text as the data of a StreamData, or a frame '
        f"of the stream; newline is one of {', '.join(NEWLINES)}"
    )
