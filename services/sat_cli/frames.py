"""Frames of a stream as lines of text, in the form of candump. PURE."""

from __future__ import annotations

import json
from typing import Any, Protocol

_STANDARD_MAX = 0x7FF


class SignalDecoder(Protocol):
    """Turns a frame into named values; a DBC does."""

    def decode(self, frame: dict[str, Any]) -> str | None:
        """``Message: Signal=1.5 km/h ...``; None where it does not know the frame."""


def line(channel: str, frame: dict[str, Any], decoder: SignalDecoder | None = None) -> str:
    """One line for `frame`: a CAN frame as candump has it, anything else with its data as text or
    JSON."""
    head = f"({frame.get('t', 0.0):.6f})  {channel}"
    if "id" not in frame:
        data = frame.get("data", "")
        return f"{head}  {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}"
    text = f"{head}  {arbitration_id(frame)}  {_payload(frame)}"
    flags = [name.upper() for name in ("brs", "esi", "err", "tx") if frame.get(name)]
    text += f"  {' '.join(flags)}" if flags else ""
    decoded = decoder.decode(frame) if decoder else None
    return f"{text}  {decoded}" if decoded else text


def arbitration_id(frame: dict[str, Any]) -> str:
    """Three hex digits, eight for an extended id."""
    number = int(frame["id"])
    return f"{number:08X}" if frame.get("ext") or number > _STANDARD_MAX else f"{number:03X}"


def _payload(frame: dict[str, Any]) -> str:
    if frame.get("rtr"):
        return f"[{frame.get('dlc', 0)}]  remote request"
    data = str(frame.get("data", ""))
    pairs = [data[i : i + 2].upper() for i in range(0, len(data), 2)]
    size = f"[{len(pairs):02d}]" if frame.get("fd") else f"[{len(pairs)}]"
    return f"{size}  {' '.join(pairs)}".rstrip()
