"""Which frames of a stream are missing, and why: arithmetic over the batches' headers. PURE.

A stream's frames are numbered from 0 at the host. A `Cursor` follows the numbers of one device's
streams; what the headers jump over is a `Gap`. Its causes are those by which the host's running
totals of drops grew. What the host has not told is "transport"; it may still tell later, and then
`BatchNews.explained` says so. What fell out of the reader's own queue is "client".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

TRANSPORT = "transport"
CLIENT = "client"
_STREAMS = 64  # streams remembered per cursor
_RANGES = 256  # of numbers that fell out, remembered while nobody reads


@dataclass(frozen=True)
class Gap:
    """Frames `first` to `last` of a stream did not arrive. `causes` says how many by which; they
    add up to `count`."""

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
    """Batches of one stream that fell out of the reader's queue: what the newest says, and which
    numbers they had, each range up to before its second figure."""

    head: Head
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, head: Head, before: Fallen | None) -> Fallen:
        """`head` fell out after what is `before`."""
        ranges = before.ranges if before else ()
        begin, end = head.seq, head.seq + head.n
        if ranges and ranges[-1][0] <= begin <= ranges[-1][1]:
            begin, end = ranges[-1][0], max(ranges[-1][1], end)
            ranges = ranges[:-1]
        if len(ranges) >= _RANGES:  # what is missing between them is then taken for fallen out
            ranges = ((ranges[0][0], ranges[1][1]), *ranges[2:])
        return cls(head, (*ranges, (begin, end)))


@dataclass(frozen=True)
class BatchNews:
    """What a batch brings.

    Attributes:
        known: how many of its first frames had arrived before.
        gap: what is missing before it.
        dropped: the drops that the host tells with it for the first time, by cause.
        explained: of the frames that were counted as "transport" so far, those whose cause the host
            tells now.
    """

    known: int
    gap: Gap | None
    dropped: dict[str, int]
    explained: dict[str, int]


@dataclass
class _Form:
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
        """Take in the host's totals; drops that are new may explain what is missing, before or
        after."""
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

    def lose(self, until: int) -> None:
        """The numbers up to `until` fell out of the reader's queue."""
        if until > self.expected:
            self._open_gap()
            _add(self.causes, CLIENT, until - self.expected)
            self.expected = until

    def explain(self) -> None:
        """Say of what is missing what the host has told: first of the newest gap, then of earlier
        ones."""
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

    def step(self, known: int) -> BatchNews:
        """All that has come together since the last one."""
        gap = Gap(self.first, sum(self.causes.values()), self.causes) if self.causes else None
        step = BatchNews(known, gap, self.dropped, self.explained)
        self.unexplained += self.causes.get(TRANSPORT, 0)
        self.causes, self.dropped, self.explained = {}, {}, {}
        return step

    def _open_gap(self) -> None:
        if not self.causes:
            self.first = self.expected


class Cursor:
    """Where the streams of one type of one device have got to.

    The first stream it sees may have been running for a while, so it is joined where it is, unless
    `from_start`; every later one is followed from its first frame. Of a stream that comes in both
    forms `bin` is followed, and `json` until `bin` has caught up with it.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._join = not from_start
        self._streams: OrderedDict[tuple[str, str], _Form] = OrderedDict()

    def advance(self, head: Head) -> BatchNews | None:
        """A batch was read: what it brings; None for a repetition, or the form that is not
        followed."""
        stream = self._follow(head, head.seq)
        end = head.seq + head.n
        if stream is None or end < stream.expected or (end == stream.expected and head.n):
            return None
        known = max(0, stream.expected - head.seq)
        stream.hear(head.dropped)
        stream.miss(head.seq)
        stream.explain()
        stream.expected = end
        return stream.step(known)

    def pass_over(self, fallen: Fallen) -> None:
        """Batches fell out of the reader's queue before the one that is read next."""
        stream = self._follow(fallen.head, fallen.ranges[0][0])
        if stream is None:
            return
        stream.hear(fallen.head.dropped)
        for first, end in fallen.ranges:
            stream.miss(first)
            stream.lose(end)
        stream.explain()

    def _follow(self, head: Head, first: int) -> _Form | None:
        """The stream that `head` is of; None when it is followed in the other form."""
        key = (head.boot, head.stream)
        stream = self._streams.get(key)
        if stream is None:
            expected, told = (first, dict(head.dropped)) if self._join else (0, {})
            self._join = False
            stream = self._streams[key] = _Form(head.form, expected, told)
            while len(self._streams) > _STREAMS:
                self._streams.popitem(last=False)
        elif stream.form != head.form:
            if head.form != "bin" or first > stream.expected:
                return None
            stream.form, stream.told = (
                head.form,
                dict(head.dropped),
            )  # each form has losses of its own
        return stream


def _doubtful(cause: str) -> bool:
    """Whether frames counted under `cause` may have arrived all the same."""
    return cause.endswith("_unacked")


def _add(counts: dict[str, int], cause: str, count: int) -> None:
    counts[cause] = counts.get(cause, 0) + count
    if not counts[cause]:
        del counts[cause]
