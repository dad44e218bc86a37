"""How a device's streams are delivered: in which forms, how soon, and how often at the most. PURE."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from sat_bus.messages import StreamWish, explain
from sat_toolkit.core.commands import Command
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs

Format = str  # "json" or "bin"
_MAX_IDS = 65_536
ABOUT = (
    'how frames are delivered: formats such as ["json", "bin"], window_ms for which they are gathered, max_hz of each '
    'arbitration id, as one figure or as {"0x123": 10}'
)


@dataclass(frozen=True)
class Wishes:
    """What is wished of the streams of one device.

    Attributes:
        formats: the forms that are published, ``json`` and ``bin``; streams that carry no CAN frames are json.
        window_ms: how long frames are gathered into a batch.
        max_hz: how many frames of each arbitration id go out per second: one figure for all, or ids and figures.
    """

    formats: tuple[Format, ...] = ("json",)
    window_ms: int = 10
    max_hz: float | Mapping[str, float] | None = None

    def with_changes(self, wish: Mapping[str, Any], *, running: bool) -> Wishes:
        """These with what `wish` names. While streams are `running`, formats are added to those in use."""
        formats = tuple(wish.get("formats") or self.formats)
        if running:
            formats = tuple(dict.fromkeys((*self.formats, *(wish.get("formats") or ()))))
        changes = {name: wish[name] for name in ("window_ms", "max_hz") if wish.get(name) is not None}
        return replace(self, formats=formats, **changes)

    def forms_of(self, kind: str) -> tuple[Format, ...]:
        """The forms of a stream of type `kind`."""
        return self.formats if kind == "can" else ("json",)


def take_wish(
    command: Command, streams: Collection[str], args: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The args of a start command without its ``stream``, and that; a driver that declares one of its own keeps it.

    Raises:
        BadArgs: a wish that makes no sense, or that none of the device's `streams` can have.
    """
    if command.name != "start" or not streams or "stream" in command.parameters.get("properties", {}):
        return dict(args), {}
    rest = {name: value for name, value in args.items() if name != "stream"}
    try:
        wish = StreamWish.model_validate(args.get("stream", {}))
    except ValidationError as error:
        raise BadArgs(f"stream: {explain(error)}; accepted: {', '.join(StreamWish.model_fields)}") from None
    if wish.formats == ["bin"] and "can" not in streams:
        raise BadArgs(f"stream.formats: bin is for CAN streams, this device has {', '.join(streams)}; json is accepted")
    return rest, wish.model_dump(exclude_none=True)


def with_wish(command: Command, streams: Collection[str]) -> dict[str, Any]:
    """The JSON Schema of a command's args, with the ``stream`` that the host takes out of them."""
    schema = command.parameters
    if command.name != "start" or not streams or "stream" in schema.get("properties", {}):
        return schema
    wish = {**StreamWish.model_json_schema(), "description": ABOUT}
    return {**schema, "properties": {**schema.get("properties", {}), "stream": wish}}


class Thinner:
    """Lets the frames of each arbitration id through so often at the most, by their times of capture."""

    def __init__(self, max_hz: float | Mapping[str, float]) -> None:
        self._every: Callable[[int], float | None]
        if isinstance(max_hz, Mapping):
            periods = {int(name, 0): 1.0 / hz for name, hz in max_hz.items()}
            self._every = periods.get
        else:
            period = 1.0 / max_hz
            self._every = lambda arbitration_id: period
        self._last: dict[int, float] = {}

    def passes(self, arbitration_id: int, t: float) -> bool:
        """Whether the frame of that id captured at `t` goes out. A clock that was set back begins anew."""
        period = self._every(arbitration_id)
        if period is None:
            return True
        last = self._last.get(arbitration_id)
        # A thousandth of the period is left to the sender's own jitter.
        if last is not None and 0 <= t - last < period * 0.999:
            return False
        if len(self._last) >= _MAX_IDS:
            self._last.clear()
        self._last[arbitration_id] = t
        return True

    def thin(self, block: FrameBlock) -> FrameBlock:
        """The frames of `block` that go out."""
        kept = [index for index, (can_id, t) in enumerate(block.stamps()) if self.passes(can_id & 0x1FFF_FFFF, t)]
        return block if len(kept) == len(block) else block.pick(kept)
