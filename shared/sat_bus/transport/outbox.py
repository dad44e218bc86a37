"""What waits to go out, in three classes: control, state, frames. Shared by all adapters of the
bus.

It decides what is kept, replaced, refused and dropped, and counts it; it sends nothing and starts
no thread. Frames are fair by topic: each is served in turn, and a flood on one drops its own
messages. An adapter takes messages out in order of their class, has a bounded number of each class
outstanding (so that a command overtakes any queue of frames) and says when they are done.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

from sat_bus.contract.topics import Traffic

log = logging.getLogger(__name__)

MAX_PAYLOAD = 262_144
# Outstanding messages by class; their sum is the least that a broker must take (Mosquitto's default
# is 20).
WINDOW = {Traffic.CONTROL: 8, Traffic.STATE: 8, Traffic.FRAMES: 4}
_OVERHEAD = 256  # bytes that a queued message costs beside its payload

OnDrop = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A message on its way out; compared by identity."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    traffic: Traffic = Traffic.CONTROL
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: float | None = None
    traceparent: str | None = None
    on_drop: OnDrop | None = None

    @property
    def size(self) -> int:
        return len(self.payload) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class Lengths:
    """Messages waiting, by class; outstanding ones are in none of these but `outstanding`."""

    control: int
    state: int
    frames: int
    frame_bytes: int
    outstanding: int


class _Lane:
    """What waits of one topic; `listed` is what its entry in the heap says, 0 when it has none."""

    __slots__ = ("born", "bytes", "listed", "waiting")

    def __init__(self, born: int) -> None:
        self.born = born
        self.bytes = self.listed = 0
        self.waiting: deque[Outgoing] = deque()

    def entry(self) -> tuple[int, int, _Lane]:
        self.listed = self.bytes
        return -self.bytes, self.born, self


class FairQueue:
    """A queue for each topic. `take` serves them in turn, `drop` takes from the one that has most
    bytes.

    So a topic that floods loses its own messages, and delays those of another by one message a
    round. No operation takes longer than the logarithm of the number of topics, amortised. Not safe
    from threads.

    Attributes:
        bytes: sum of the sizes of what waits.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._messages = 0
        self._births = count()
        self._lanes: OrderedDict[str, _Lane] = (
            OrderedDict()
        )  # the one whose turn it is first, none empty
        # The heaviest first. A lane has an entry of the bytes that it has or more, `listed`: it is
        # corrected when it comes to the top, as most never do. Entries of other bytes are void.
        self._heap: list[tuple[int, int, _Lane]] = []

    def __len__(self) -> int:
        return self._messages

    def __iter__(self) -> Iterator[Outgoing]:
        for lane in self._lanes.values():
            yield from lane.waiting

    def put(self, message: Outgoing) -> None:
        """Add it behind what waits of its topic; a topic of which nothing waits comes last in the
        round."""
        lane = self._lanes.get(message.topic)
        if lane is None:
            lane = self._lanes[message.topic] = _Lane(next(self._births))
        size = message.size
        lane.waiting.append(message)
        lane.bytes += size
        self.bytes += size
        self._messages += 1
        if lane.bytes > lane.listed:
            heappush(self._heap, lane.entry())
            if len(self._heap) > 2 * len(self._lanes) + 32:
                self._heap = [lane.entry() for lane in self._lanes.values()]
                heapify(self._heap)

    def take(self) -> Outgoing:
        """The oldest message of the topic whose turn it is; there must be one."""
        topic, lane = next(iter(self._lanes.items()))
        self._lanes.move_to_end(topic)
        return self._remove(lane)

    def drop(self) -> Outgoing:
        """The oldest message of the topic with most bytes, of equal topics the one that waits
        longest; there must be one. The topic keeps its turn."""
        while True:
            negative, _, lane = self._heap[0]
            if -negative != lane.listed:
                heappop(self._heap)
            elif lane.bytes < lane.listed:
                heapreplace(self._heap, lane.entry())
            else:
                return self._remove(lane)

    def clear(self) -> None:
        self._lanes.clear()
        self._heap.clear()
        self.bytes = self._messages = 0

    def _remove(self, lane: _Lane) -> Outgoing:
        message = lane.waiting.popleft()
        size = message.size
        lane.bytes -= size
        self.bytes -= size
        self._messages -= 1
        if not lane.waiting:
            lane.listed = 0
            del self._lanes[message.topic]
        return message


class Outbox:
    """The queues. All methods are safe from any thread and none blocks but `flush`; it begins
    offline.

    Args:
        control: most control messages that wait.
        state: most topics whose state waits.
        frame_bytes: most bytes of frames that wait, of all topics, each with 256 bytes for itself.
    """

    def __init__(
        self, *, control: int = 1_000, state: int = 10_000, frame_bytes: int = 8 << 20
    ) -> None:
        self._limits = (control, state, frame_bytes)
        self._control: deque[Outgoing] = deque()
        self._state: dict[str, Outgoing] = {}
        self._frames = FairQueue()
        self._outstanding: dict[Outgoing, None] = {}
        self._per_class: Counter[Traffic] = Counter()
        self._room = sum(WINDOW.values())
        self._online = False
        self._dropped: Counter[str] = Counter()
        self._changed = threading.Condition()

    def put(self, message: Outgoing) -> bool:
        """Queue `message`. False: it was refused and counted, and will never go out."""
        with self._changed:
            lost = self._put(message)
        self._tell(lost)
        return all(gone is not message for gone, _ in lost)

    def take(self) -> Outgoing | None:
        """The next message that may go out now; it is outstanding until `done`. None: nothing, or
        no room."""
        with self._changed:
            if not self._online or len(self._outstanding) >= self._room:
                return None
            message = self._next()
            if message is not None:
                self._outstanding[message] = None
                self._per_class[message.traffic] += 1
            return message

    def done(self, message: Outgoing, refused: str | None = None) -> None:
        """`message` was acknowledged, or written when it needs no acknowledgement. `refused` is the
        cause to count when the broker would not have it."""
        with self._changed:
            known = message in self._outstanding
            if known:
                del self._outstanding[message]
                self._per_class[message.traffic] -= 1
                self._changed.notify_all()
        if known and refused is not None:
            with self._changed:
                self._dropped[refused] += 1
            self._tell([(message, refused)])

    def online(self, room: int | None = None) -> None:
        """The broker takes messages, at most `room` outstanding."""
        with self._changed:
            self._room = (
                sum(WINDOW.values()) if room is None else max(1, min(room, sum(WINDOW.values())))
            )
            self._online = True

    def offline(self) -> None:
        """The connection is gone: control and frames are dropped, so that nothing old goes out
        later; state is kept. The fate of what was outstanding is unknown: state goes out again, the
        rest counts as unacked."""
        with self._changed:
            self._online = False
            lost = [
                (message, f"{message.traffic}_offline")
                for message in (*self._control, *self._frames)
            ]
            self._control.clear()
            self._frames.clear()
            again: dict[str, Outgoing] = {}
            for message in self._outstanding:
                if message.traffic is Traffic.STATE:
                    again[message.topic] = message
                else:
                    lost.append((message, f"{message.traffic}_unacked"))
            self._state = again | self._state
            self._outstanding.clear()
            self._per_class.clear()
            self._dropped.update(cause for _, cause in lost)
            self._changed.notify_all()
        self._tell(lost)

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits and nothing is outstanding; False when `timeout` seconds ran
        out."""
        with self._changed:
            return self._changed.wait_for(self._empty, timeout)

    def lengths(self) -> Lengths:
        with self._changed:
            return Lengths(
                len(self._control), len(self._state), len(self._frames), self._frames.bytes, len(self._outstanding)
            )  # fmt: skip

    def dropped(self) -> dict[str, int]:
        """Messages lost so far, by cause."""
        with self._changed:
            return dict(self._dropped)

    def _empty(self) -> bool:
        return not (self._control or self._state or self._frames or self._outstanding)

    def _put(self, message: Outgoing) -> list[tuple[Outgoing, str]]:
        """Queue it and return what was lost by that, which may be the message itself."""
        control, state, frame_bytes = self._limits
        lost: list[tuple[Outgoing, str]] = []
        if len(message.payload) > MAX_PAYLOAD:
            lost.append((message, "oversize"))
        elif message.traffic is Traffic.STATE:
            if message.topic in self._state or len(self._state) < state:
                self._state[message.topic] = message
            else:
                lost.append((message, "state_full"))
        elif not self._online:
            lost.append((message, f"{message.traffic}_offline"))
        elif message.traffic is Traffic.CONTROL:
            if len(self._control) < control:
                self._control.append(message)
            else:
                lost.append((message, "control_full"))
        else:
            while self._frames.bytes + message.size > frame_bytes and self._frames:
                lost.append((self._frames.drop(), "frames_full"))
            self._frames.put(message)
        if lost:
            self._dropped.update(cause for _, cause in lost)
        return lost

    def _next(self) -> Outgoing | None:
        if self._control and self._free(Traffic.CONTROL):
            return self._control.popleft()
        if self._state and self._free(Traffic.STATE):
            return self._state.pop(next(iter(self._state)))
        if self._frames and self._free(Traffic.FRAMES):
            return self._frames.take()
        return None

    def _free(self, traffic: Traffic) -> bool:
        return self._per_class[traffic] < WINDOW[traffic]

    @staticmethod
    def _tell(lost: list[tuple[Outgoing, str]]) -> None:
        """Call `on_drop`, outside of the lock: it may publish."""
        for message, cause in lost:
            if message.on_drop is None:
                continue
            try:
                message.on_drop(cause)
            except Exception:
                log.exception("on_drop of a message to %s failed", message.topic)
