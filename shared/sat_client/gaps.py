"""Which frames of a stream are missing, and why: arithmetic over the batches' headers. PURE.

A stream's frames are numbered from 0 at the host. A `Cursor` follows the numbers of one device's streams; what
the headers jump over is a `Gap`. Its causes are those by which the host's running totals of drops grew. What the
host has not told is "transport"; it may still tell later, and then `Step.explained` says so. What fell out of the
reader's own queue is "client".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

TRANSPORT = "transport"
CLIENT = "client"
_STREAMS = 64  # streams remembered per cursor


@dataclass(frozen=True)
class Gap:
    """Frames `first` to `last` of a stream did not arrive. `causes` says how many by which; they add up to `count`."""

    first: int
    count: int
    causes: Mapping[str, int]

    @property
    def last(self) -> int:
        return self.first + self.count - 1


@dataclass(frozen=True)
class Head:
    """What a batch says of itself, whatever its form."""

    form: str
    boot: str
    stream: str
    seq: int
    n: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class Fallen:
    """Batches of one stream, taken together, that fell out of the reader's queue: `frames` of those from `first` on,
    up to before `end`."""

    head: Head
    first: int
    end: int
    frames: int

    @classmethod
    def of(cls, head: Head, before: Fallen | None) -> Fallen:
        """`head` fell out after what is `before`."""
        if before is None:
            return cls(head, head.seq, head.seq + head.n, head.n)
        end = max(before.end, head.seq + head.n)
        new = min(head.n, end - before.end)
        return cls(head, before.first, end, before.frames + new)


@dataclass(frozen=True)
class Step:
    """What a batch brings.

    Attributes:
        known: how many of its first frames had arrived before.
        gap: what is missing before it.
        dropped: the drops that the host tells with it for the first time, by cause.
        explained: of the frames that were counted as "transport" so far, those whose cause the host tells now.
    """

    known: int
    gap: Gap | None
    dropped: dict[str, int]
    explained: dict[str, int]


@dataclass
class _Stream:
    form: str
    expected: int
    told: dict[str, int]
    credit: dict[str, int] = field(default_factory=dict)  # drops that no gap has shown yet
    unexplained: int = 0  # counted as "transport", in gaps that were handed out
    first: int = 0  # of the gap that is not handed out yet
    causes: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    explained: dict[str, int] = field(default_factory=dict)

    def hear(self, dropped: Mapping[str, int]) -> None:
        """Take in the host's totals; drops that are new may explain what is missing, before or after."""
        for cause, count in dropped.items():
            growth = count - self.told.get(cause, 0)
            if growth > 0:
                self.told[cause] = count
                _add(self.dropped, cause, growth)
                _add(self.credit, cause, growth)

    def miss(self, until: int) -> None:
        """The numbers up to `until` are jumped over."""
        if until > self.expected:
            self._open_gap()
            _add(self.causes, TRANSPORT, until - self.expected)
            self.expected = until

    def lose(self, frames: int) -> None:
        """The next `frames` fell out of the reader's queue."""
        if frames > 0:
            self._open_gap()
            _add(self.causes, CLIENT, frames)
            self.expected += frames

    def explain(self) -> None:
        """Say of what is missing what the host has told: first of the newest gap, then of earlier ones."""
        for cause in sorted(self.credit, key=_doubtful):
            here = min(self.credit[cause], self.causes.get(TRANSPORT, 0))
            earlier = min(self.credit[cause] - here, self.unexplained)
            for target, count in ((self.causes, here), (self.explained, earlier)):
                if count:
                    _add(target, cause, count)
            self.unexplained -= earlier
            if here:
                _add(self.causes, TRANSPORT, -here)
            _add(self.credit, cause, -here - earlier)

    def step(self, known: int) -> Step:
        """All that has come together since the last one."""
        gap = Gap(self.first, sum(self.causes.values()), self.causes) if self.causes else None
        step = Step(known, gap, self.dropped, self.explained)
        self.unexplained += self.causes.get(TRANSPORT, 0)
        self.causes, self.dropped, self.explained = {}, {}, {}
        return step

    def _open_gap(self) -> None:
        if not self.causes:
            self.first = self.expected


class Cursor:
    """Where the streams of one type of one device have got to.

    The first stream it sees may have been running for a while, so it is joined where it is, unless
    `from_start`; every later one is followed from its first frame. Of a stream that comes in both forms `bin` is
    followed, and `json` until `bin` has caught up with it.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._join = not from_start
        self._streams: OrderedDict[tuple[str, str], _Stream] = OrderedDict()

    def advance(self, head: Head) -> Step | None:
        """A batch was read: what it brings; None for a repetition, or the form that is not followed."""
        stream = self._follow(head, head.seq)
        if stream is None or _is_over(stream, head.seq + head.n, head.n):
            return None
        known = max(0, stream.expected - head.seq)
        stream.hear(head.dropped)
        stream.miss(head.seq)
        stream.explain()
        stream.expected = head.seq + head.n
        return stream.step(known)

    def pass_over(self, fallen: Fallen) -> None:
        """Batches fell out of the reader's queue before the one that is read next."""
        stream = self._follow(fallen.head, fallen.first)
        if stream is None or _is_over(stream, fallen.end, fallen.frames):
            return
        stream.hear(fallen.head.dropped)
        stream.miss(fallen.first)
        own = min(fallen.frames, fallen.end - stream.expected)
        stream.lose(own)
        stream.miss(fallen.end)
        stream.explain()

    def _follow(self, head: Head, first: int) -> _Stream | None:
        """The stream that `head` is of; None when it is followed in the other form."""
        key = (head.boot, head.stream)
        stream = self._streams.get(key)
        if stream is None:
            expected, told = (first, dict(head.dropped)) if self._join else (0, {})
            self._join = False
            stream = self._streams[key] = _Stream(head.form, expected, told)
            while len(self._streams) > _STREAMS:
                self._streams.popitem(last=False)
        elif stream.form != head.form:
            if head.form != "bin" or first > stream.expected:
                return None
            stream.form, stream.told = head.form, dict(head.dropped)  # each form has losses of its own
        return stream


def _is_over(stream: _Stream, end: int, frames: int) -> bool:
    """Whether all up to `end` has been seen before."""
    return end < stream.expected or (end == stream.expected and frames > 0)


def _doubtful(cause: str) -> bool:
    """Whether frames counted under `cause` may have arrived all the same."""
    return cause.endswith("_unacked")


def _add(counts: dict[str, int], cause: str, count: int) -> None:
    counts[cause] = counts.get(cause, 0) + count
    if not counts[cause]:
        del counts[cause]
