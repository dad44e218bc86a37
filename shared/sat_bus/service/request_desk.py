"""The desk where requests arrive: envelope, deadline, deduplication, refusals and the one reply.

Host and orchestrator both put every request through a `RequestDesk`, so that the contract's rules
stand in one place. It decides whether a request may run and where its outcome goes; it never runs
anything, has no thread and no clock of its own, and belongs to the one thread (the work loop) that
calls it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import MalformedRequest, Reply, Request
from sat_bus.contract.topics import Match, Topic
from sat_bus.transport.bus import Inbound
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadRequest, Busy, Denied, Expired, Internal, SatError

CAPACITY = 1024
KEEP_S = 600.0
DEFAULT_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 250_000
ANONYMOUS = "anonymous"
_MAX_DESTINATIONS = 8

_REPLY_TOPICS: dict[str, tuple[Topic, dict[str, str]]] = {
    topics.COMMAND.name: (topics.DEVICE_REPLY, {}),
    topics.SET.name: (topics.DEVICE_REPLY, {"command": "set"}),
    topics.INPUT_JSON.name: (topics.DEVICE_REPLY, {"command": "in"}),
    topics.INPUT_BIN.name: (topics.DEVICE_REPLY, {"command": "in"}),
    topics.HOST_REQUEST.name: (topics.HOST_REPLY, {}),
    topics.ORCHESTRATOR_REQUEST.name: (topics.ORCHESTRATOR_REPLY, {}),
}
_REPLY_LEVELS: dict[str, tuple[str, ...]] = {
    topics.DEVICE_REPLY.name: ("host", "driver", "device", "command"),
    topics.HOST_REPLY.name: ("host", "op"),
    topics.ORCHESTRATOR_REPLY.name: ("op",),
}


class ReplySink(Protocol):
    """The part of a Bus that a desk needs."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        correlation: bytes | None = None,
        traceparent: str | None = None,
    ) -> bool:
        """Queue a message; never blocks."""


@dataclass(frozen=True)
class Destination:
    """Where a reply goes."""

    topic: str
    correlation: bytes | None = None


@dataclass
class _Remembered:
    """What is remembered of a request id: the digest of its body, its reply, and who waits for
    it."""

    digest: bytes
    waiting: list[Destination]
    reply: Reply | None = None
    done_at: float = 0.0


@dataclass(eq=False)
class Accepted:
    """A request that may run. It is answered exactly once: by `ok`, `fail` or `reply`, whichever
    comes first.

    Attributes:
        request: the envelope.
        match: the topic it came on, with its levels.
        client: who asks: the topic's client level, else that of the reply topic, else
            ``anonymous``.
        arrived, deadline: seconds on the desk's monotonic clock.
        traceparent: the trace it belongs to, from the envelope or the transport.
        outcome: the reply that was sent; None as long as none was.
    """

    request: Request
    match: Match
    client: str
    arrived: float
    deadline: float
    traceparent: str | None
    _desk: RequestDesk = field(repr=False)
    _entry: _Remembered = field(repr=False)
    outcome: Reply | None = field(default=None, init=False, repr=False)

    @property
    def answered(self) -> bool:
        """Whether the outcome is out."""
        return self.outcome is not None

    @property
    def left(self) -> float:
        """Seconds until its deadline; not above 0 when that has passed."""
        return self.deadline - self._desk.clock()

    @property
    def operation(self) -> str:
        """What is asked for: the operation or command that its topic names, ``set`` or ``in``."""
        _, fixed = _REPLY_TOPICS[self.match.topic.name]
        levels = {**self.match.levels, **fixed}
        return levels["op"] if "op" in levels else levels["command"]

    @property
    def target(self) -> str:
        """Whom its topic names: ``host/driver/device``, a host, or nobody."""
        levels = self.match.levels
        return "/".join(levels[name] for name in ("host", "driver", "device") if name in levels)

    def ok(
        self, result: Any = None, *, state: DeviceState | None = None, message: str = ""
    ) -> bool:
        """Answer with success. False: it had been answered already, nothing was sent."""
        desk, took = self._desk, self._duration_ms()
        return self._answer(
            messages.ok(
                self.request,
                host=desk.host,
                boot=desk.boot,
                result=result,
                state=state,
                message=message,
                duration_ms=took,
            )
        )

    def fail(
        self, error: SatError, *, state: DeviceState | None = None, result: Any = None
    ) -> bool:
        """Answer with `error`. False: it had been answered already, nothing was sent."""
        desk, took = self._desk, self._duration_ms()
        return self._answer(
            messages.failed(
                self.request.request_id,
                error,
                host=desk.host,
                boot=desk.boot,
                state=state,
                result=result,
                duration_ms=took,
            )
        )

    def reply(self, reply: Reply) -> bool:
        """Answer with `reply`, which somebody else gave: the id of this request and its duration
        are filled in. False: it had been answered already."""
        own = {"request_id": self.request.request_id, "duration_ms": self._duration_ms()}
        return self._answer(reply.model_copy(update=own))

    def _duration_ms(self) -> float:
        return round((self._desk.clock() - self.arrived) * 1000, 3)

    def _answer(self, reply: Reply) -> bool:
        if self.outcome is not None:
            return False
        self.outcome = reply
        self._desk._finish(self, self._entry, reply)
        return True


class RequestDesk:
    """Takes in requests for one service.

    Args:
        site: the site served; reply topics are checked against it.
        host: who answers, as replies name it: the host's name, or ``orchestrator``.
        boot: the answering service's boot, as replies carry it.
        outbox: where replies are published.
        clock: a monotonic clock, in seconds.
        own_boot_only: refuse (`expired`) requests that name another boot than `boot`.
    """

    def __init__(
        self,
        site: str,
        host: str,
        boot: str,
        outbox: ReplySink,
        clock: Callable[[], float],
        *,
        own_boot_only: bool = True,
        capacity: int = CAPACITY,
    ) -> None:
        self.site, self.host, self.boot = site, host, boot
        self.counts: Counter[str] = Counter()
        self._outbox = outbox
        self.clock = clock
        self._own_boot_only = own_boot_only
        self._capacity = capacity
        self._entries: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()

    def accept(
        self,
        inbound: Inbound,
        match: Match,
        *,
        parser: Callable[[bytes], Request] = messages.parse_request,
        arrived: float | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Accepted | None:
        """The request in `inbound`, when it may run. None: it was refused, repeated or empty, and
        is dealt with.

        Args:
            parser: reads the envelope from the payload; raises SatError.
            arrived: when it arrived, where that was before now (it waited for the work loop).
            timeout_s: its deadline where the envelope names none.
        """
        if not inbound.payload:
            self.counts["empty"] += 1
            return None
        now = self.clock()
        try:
            request = parser(inbound.payload)
        except SatError as error:
            self._refuse_malformed(inbound, match, error)
            return None
        start = now if arrived is None else arrived
        limit = start + (request.timeout_ms / 1000 if request.timeout_ms else timeout_s)
        try:
            destination, client = self._destination(inbound, match, request.reply_to)
        except SatError as error:
            self._refuse(request, error, Destination(self.default_topic(match)))
            return None
        try:
            if inbound.retain:
                raise BadRequest(
                    "a retained request is not run; publish it without the retain flag"
                )
            entry = self._register(inbound, request, destination, now)
        except SatError as error:
            self._refuse(request, error, destination)
            return None
        if entry is None:
            return None
        trace = request.traceparent or inbound.traceparent
        accepted = Accepted(request, match, client, start, limit, trace, self, entry)
        if self._own_boot_only and request.boot is not None and request.boot != self.boot:
            accepted.fail(
                Expired(f"meant for boot {request.boot[:80]}; the present one is {self.boot}")
            )
        elif now >= limit:
            accepted.fail(Expired(f"the deadline passed {now - limit:.3f} s before it could start"))
        return None if accepted.answered else accepted

    def default_topic(self, match: Match) -> str:
        """Where replies to a request on `match` go when it names no reply topic."""
        row, fixed = _REPLY_TOPICS[match.topic.name]
        levels = {**match.levels, **fixed}
        return row.build(self.site, **{name: levels[name] for name in _REPLY_LEVELS[row.name]})

    def _destination(
        self, inbound: Inbound, match: Match, reply_to: str | None
    ) -> tuple[Destination, str]:
        """Where the reply goes and who asks.

        A reply topic in the envelope that may not be named is an error, as its sender would wait in
        vain; a response topic of the transport, which generic clients set for themselves, is then
        passed over.
        """
        if reply_to is not None and not topics.may_reply_to(self.site, reply_to, match.client):
            own = match.client or "<client>"
            accepted = topics.REPLY.pattern.format(client=own, id="<id>")
            raise Denied(
                f"reply_to {reply_to[:160]!r}: {topics.ROOT}/{self.site}/{accepted} is accepted"
            )
        chosen = reply_to
        if chosen is None and inbound.response_topic is not None:
            allowed = topics.may_reply_to(self.site, inbound.response_topic, match.client)
            chosen = inbound.response_topic if allowed else None
        if chosen is None:
            return Destination(
                self.default_topic(match), inbound.correlation
            ), match.client or ANONYMOUS
        hit = topics.parse(self.site, chosen)
        named = hit.client if hit is not None else None
        return Destination(chosen, inbound.correlation), match.client or named or ANONYMOUS

    def _register(
        self, inbound: Inbound, request: Request, destination: Destination, now: float
    ) -> _Remembered | None:
        """The entry of a new request; None for a repetition, which gets the stored reply or waits
        for it.

        Raises:
            BadRequest: the id was used with another body.
            Busy: as many requests as can be remembered are still in progress.
        """
        digest = hashlib.blake2b(inbound.payload, digest_size=16).digest()
        if request.request_id is None:
            return _Remembered(digest, [destination])
        key = (inbound.topic, request.request_id)
        known = self._entries.get(key)
        if known is None:
            self._make_room(now)
            self._entries[key] = entry = _Remembered(digest, [destination])
            return entry
        if known.digest != digest:
            raise BadRequest(
                f"request_id {request.request_id} was used with another body; use a new id"
            )
        self.counts["repeated"] += 1
        if known.reply is not None:
            self._send(known.reply, destination)
        elif destination not in known.waiting and len(known.waiting) < _MAX_DESTINATIONS:
            known.waiting.append(destination)
        return None

    def _make_room(self, now: float) -> None:
        """Forget what is old, and the oldest answered one when full; never one in progress, it
        would run twice."""
        entries = self._entries
        while entries:
            key, oldest = next(iter(entries.items()))
            if oldest.reply is None or now - oldest.done_at <= KEEP_S:
                break
            del entries[key]
        if len(entries) < self._capacity:
            return
        answered = next((key for key, entry in entries.items() if entry.reply is not None), None)
        if answered is None:
            raise Busy(f"{self._capacity} requests are in progress; try again later")
        del entries[answered]

    def _finish(self, accepted: Accepted, entry: _Remembered, reply: Reply) -> None:
        entry.reply, entry.done_at = reply, self.clock()
        for destination in entry.waiting:
            self._send(reply, destination, accepted.traceparent)
        entry.waiting.clear()

    def _refuse(self, request: Request, error: SatError, destination: Destination) -> None:
        self.counts["refused"] += 1
        self._send(self._failure(request.request_id, error), destination)

    def _refuse_malformed(self, inbound: Inbound, match: Match, error: SatError) -> None:
        self.counts["malformed"] += 1
        request_id = reply_to = None
        if isinstance(error, MalformedRequest):
            request_id, reply_to = error.request_id, error.reply_to
        try:
            destination, _ = self._destination(inbound, match, reply_to)
        except SatError:
            destination = Destination(self.default_topic(match))
        self._send(self._failure(request_id, error), destination)

    def _failure(self, request_id: str | None, error: SatError) -> Reply:
        return messages.failed(request_id, error, host=self.host, boot=self.boot)

    def _send(self, reply: Reply, destination: Destination, traceparent: str | None = None) -> None:
        """Publish `reply`; a result that cannot be sent becomes `internal`, as silence is no
        outcome."""
        try:
            payload = reply.encode()
            problem = (
                f"the result of {len(payload)} bytes is too large"
                if len(payload) > MAX_REPLY_BYTES
                else ""
            )
        except (TypeError, ValueError) as error:  # pydantic's serialisation error is a ValueError
            payload, problem = b"", f"the result has no JSON form: {str(error)[:200]}"
        if problem:
            self.counts["unsendable"] += 1
            payload = self._failure(reply.request_id, Internal(problem)).encode()
        if not self._outbox.publish(
            destination.topic, payload, correlation=destination.correlation, traceparent=traceparent
        ):
            self.counts["unsent"] += 1
