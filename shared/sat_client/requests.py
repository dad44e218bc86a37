"""Requests with exactly one outcome: a reply, or an error that says what may be wrong.

Nothing is ever queued for later: while the broker is away a request is refused at once, and a reply
that comes after its deadline is counted and ignored.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.transport.bus import Bus, Inbound
from sat_toolkit.errors import BadRequest, Busy, Denied, HostLost, SatError, Timeout, from_code

MAX_PENDING = 1_000
GRACE = 1.0  # beyond the deadline, for the reply that says that the deadline has passed


class Offline(HostLost):
    """The broker cannot be reached, so nothing was sent."""


@dataclass(frozen=True)
class _Pending:
    future: Future[m.Reply]
    target: str


class Requester:
    """Sends requests as `client` and matches the replies on ``reply/<client>/<id>``.

    Attributes:
        late: replies that nobody waited for any more.
        malformed: replies that could not be read.
    """

    def __init__(
        self, bus: Bus, site: str, client: str, *, new_id: Callable[[], str] | None = None
    ) -> None:
        self.late = 0
        self.malformed = 0
        self._bus, self._site, self._client = bus, site, client
        self._new_id = new_id or (lambda: uuid.uuid4().hex)
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}
        self._echoes: dict[str, Callable[[], None]] = {}
        (self._filter,) = topics.REPLY.filters(site, client=client)

    def open(self) -> None:
        """Listen for replies; call before the bus is started, or at any time after."""
        self._bus.subscribe(self._filter, self._on_reply)

    def close(self) -> None:
        """Stop listening; whoever still waits gets `Offline`."""
        self._bus.unsubscribe(self._filter)
        self.fail(None, Offline("the client was closed while it waited for a reply"))

    def exchange(
        self,
        topic: str,
        args: dict[str, Any],
        *,
        timeout: float = 10.0,
        target: str = "",
        boot: str | None = None,
    ) -> m.Reply:
        """Send `args` to `topic` and return the reply, whatever it says.

        Args:
            timeout: seconds that the other side has; it is told.
            target: the host that must live for an answer to come; `fail` uses it.
            boot: the boot that the request is meant for; another one refuses it.

        Raises:
            Offline: there is no connection to the broker; nothing was sent.
            Timeout: no reply in time; whether the request took effect is unknown.
            Denied: the broker does not let us publish there; told by MQTT 5 alone.
            BadRequest: args that JSON has no form for.
        """
        return self.exchange_packed(
            topic,
            lambda envelope: self._encode(envelope, args, boot),
            timeout=timeout,
            target=target,
        )

    def exchange_packed(
        self,
        topic: str,
        encode: Callable[[dict[str, Any]], bytes],
        *,
        timeout: float = 10.0,
        target: str = "",
    ) -> m.Reply:
        """As `exchange`, with a payload of its own: what `encode` makes of ``request_id``,
        ``reply_to`` and ``timeout_ms``."""
        request_id = self._new_id()
        pending = _Pending(Future(), target)
        payload = encode(
            {
                "request_id": request_id,
                "reply_to": topics.REPLY.build(self._site, client=self._client, id=request_id),
                "timeout_ms": min(max(int(timeout * 1000), 1), m.MAX_TIMEOUT_MS),
            }
        )
        with self._lock:
            if len(self._pending) >= MAX_PENDING:
                raise Busy(f"{MAX_PENDING} requests are waiting for their replies already")
            self._pending[request_id] = pending
        try:
            refused = partial(self._dropped, request_id, topic)
            if not self._bus.connected or not self._bus.publish(
                topic, payload, expiry_s=timeout, on_drop=refused
            ):
                raise Offline(
                    "not connected to the broker; nothing was sent. Is it running? See: sat doctor"
                )
            return pending.future.result(timeout + GRACE)
        except FutureTimeout:
            who = f"host {target}" if target else "the orchestrator"
            raise Timeout(
                f"no reply on {topic} within {timeout:g} s; whether it took effect is unknown. "
                f"Is {who} running and not stuck? See: sat doctor"
            ) from None
        finally:
            with self._lock:
                self._pending.pop(request_id, None)

    def call(self, topic: str, args: dict[str, Any], **options: Any) -> m.Reply:
        """As `exchange`, with a reply that reports an error raised as the `SatError` of its
        code."""
        return check(self.exchange(topic, args, **options))

    def echo(self, name: str, heard: Callable[[], None]) -> bool:
        """Send a message to ourselves and call `heard` when it has come round, on the bus's
        dispatch thread.

        By then the broker has sent what it was asked for before. False: not sent.
        """
        with self._lock:
            self._echoes[name] = heard
        topic = topics.REPLY.build(self._site, client=self._client, id=name)
        return self._bus.publish(topic, m.Reply(status="ok").encode())

    def fail(self, target: str | None, error: SatError) -> None:
        """Answer all that wait for `target` (None: for anyone) with `error`."""
        with self._lock:
            hit = [
                name for name, pending in self._pending.items() if target in (None, pending.target)
            ]
            waiting = [self._pending.pop(name) for name in hit]
        for pending in waiting:
            pending.future.set_exception(error)

    def _dropped(self, request_id: str, topic: str, cause: str) -> None:
        if cause != "refused":
            return  # what the connection lost may have arrived
        with self._lock:
            pending = self._pending.pop(request_id, None)
        if pending is not None:
            refusal = f"the broker does not let {self._client} publish to {topic}: allow it in the broker's access list"
            pending.future.set_exception(Denied(refusal))

    @staticmethod
    def _encode(envelope: dict[str, Any], args: dict[str, Any], boot: str | None) -> bytes:
        try:
            return m.Request(args=args, boot=boot, **envelope).encode()
        except (TypeError, ValueError) as error:
            raise BadRequest(f"args that JSON has no form for: {error}") from None

    def _on_reply(self, message: Inbound) -> None:
        match = topics.parse(self._site, message.topic)
        if match is None or message.retain or not message.payload:
            return
        name = match.levels["id"]
        with self._lock:
            heard = self._echoes.pop(name, None)
            pending = self._pending.pop(name, None)
        if heard is not None:
            heard()
        elif pending is None:
            self.late += 1
        else:
            self._settle(pending, message.payload)

    def _settle(self, pending: _Pending, payload: bytes) -> None:
        try:
            reply = m.Reply.decode(payload)
        except BadRequest as error:
            self.malformed += 1
            pending.future.set_exception(error)
            return
        pending.future.set_result(reply)


def check(reply: m.Reply) -> m.Reply:
    """`reply`, when it reports success.

    Raises:
        SatError: the class that the reply's code stands for, with its message.
    """
    if reply.status == "error":
        raise from_code(reply.code or "internal", reply.message)
    return reply
