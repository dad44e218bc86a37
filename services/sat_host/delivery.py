"""How a device's streams are delivered: in which forms, how soon, and how often at the most.
PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sat_toolkit.core.frame_block import ID_MASK, FrameBlock

_MAX_IDS = 65_536


@dataclass(frozen=True, slots=True)
class DeliveryChanges:
    """What a start says of the delivery of its streams; None: nothing. See `Delivery`."""

    formats: tuple[str, ...] | None = None
    window_ms: int | None = None
    max_hz: float | Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the streams of one device are delivered.

    Attributes:
        formats: the forms that are published, ``json`` and ``bin``; streams that carry no CAN
            frames are json.
        window_ms: how long frames are gathered into a batch.
        max_hz: how many frames of each arbitration id go out per second: one figure for all, or ids
            and figures.
    """

    formats: tuple[str, ...] = ("json",)
    window_ms: int = 10
    max_hz: float | Mapping[str, float] | None = None

    def with_changes(self, changes: DeliveryChanges, *, running: bool) -> Delivery:
        """This with what `changes` says. While streams are `running`, formats are added to those
        in use."""
        formats = changes.formats or self.formats
        if running:
            formats = tuple(dict.fromkeys((*self.formats, *formats)))
        return Delivery(
            formats,
            self.window_ms if changes.window_ms is None else changes.window_ms,
            self.max_hz if changes.max_hz is None else changes.max_hz,
        )

    def forms_of(self, kind: str) -> tuple[str, ...]:
        """The forms of a stream of type `kind`."""
        return self.formats if kind == "can" else ("json",)


class Thinner:
    """Lets the frames of each arbitration id through so often at the most, by their times of
    capture."""

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
        """Whether the frame of that id captured at `t` goes out. A clock that was set back begins
        anew."""
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
        kept = [
            index
            for index, (can_id, t) in enumerate(block.stamps())
            if self.passes(can_id & ID_MASK, t)
        ]
        return block if len(kept) == len(block) else block.pick(kept)
