"""Requests that wait for their replies: each has an id of its own and is over exactly once.

What became of a request goes into its `ReplySlot`: a `concurrent.futures.Future` for a thread that
blocks, a promise for code on a work loop. Nothing is queued for later: what the bus does not take is
not sent. What a request asks for, and in which words it fails, is its sender's to say.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from sat_bus.contract import topics
from sat_bus.contract.messages import MAX_TIMEOUT_MS, Reply
from sat_bus.transport.bus import Bus, Inbound
from sat_toolkit.errors import BadRequest, Busy, Denied, SatError, Timeout

CAPACITY = 1_000


class ReplySlot(Protocol):
    """Where the reply to a request goes, or the error that there is in its place."""

    def set_result(self, reply: Reply, /) -> None:
        """The reply came."""

    def set_exception(self, error: SatError, /) -> None:
        """No reply will be waited for any more."""


@dataclass(frozen=True)
class OpenCall:
    """A request under way.

    Attributes:
        request_id: from `Calls.envelope`.
        target: the host that must live for an answer to come; may be empty.
        asked: what is asked, as messages name it.
        deadline: when it is over in any case, in seconds on the clock of `Calls.expire`.
    """

    request_id: str
    outcome: ReplySlot
    target: str = ""
    asked: str = ""
    deadline: float = float("inf")


class Calls:
    """What has been asked and is not answered yet. For any thread.

    Args:
        client: our own client id; replies come below ``reply/<client>/``.
        capacity: requests that may wait at a time.
        post: takes the jobs that settle what another thread has ended, such as `WorkLoop.post`; by
            default they run there.

    Attributes:
        counts: ``late_replies`` that nobody waited for any more, ``malformed_replies`` that could
            not be read, ``timeouts``.
    """

    def __init__(
        self,
        bus: Bus,
        site: str,
        client: str,
        *,
        capacity: int = CAPACITY,
        post: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._bus, self._site, self._client = bus, site, client
        self._capacity = capacity
        self._post = post
        self._lock = threading.Lock()
        self._waiting: dict[str, OpenCall] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def envelope(self, timeout: float) -> dict[str, Any]:
        """The fields of a new request: its id, where the reply is awaited, and that the other side
        has `timeout` seconds."""
        request_id = uuid.uuid4().hex  # whoever answers remembers the ids of those before us
        return {
            "request_id": request_id,
            "reply_to": self.reply_topic(request_id),
            "timeout_ms": min(max(int(timeout * 1000), 1), MAX_TIMEOUT_MS),
        }

    def reply_topic(self, request_id: str) -> str:
        """Where the reply to `request_id` is awaited."""
        return topics.REPLY.build(self._site, client=self._client, id=request_id)

    def send(
        self,
        topic: str,
        payload: bytes,
        call: OpenCall,
        *,
        expiry: float | None = None,
        traceparent: str | None = None,
    ) -> bool:
        """Send `payload`; the outcome of `call` is settled later. False: it was not sent, and its
        outcome never will be.

        Args:
            expiry: seconds after which a broker need not deliver it any more.

        Raises:
            Busy: as many requests as may are waiting already.
        """
        with self._lock:
            if len(self._waiting) >= self._capacity:
                raise Busy(f"{self._capacity} requests are waiting for their replies already")
            self._waiting[call.request_id] = call
        dropped = partial(self._dropped, call.request_id, topic)
        sent = self._bus.publish(
            topic, payload, expiry_s=expiry, traceparent=traceparent, on_drop=dropped
        )
        if not sent:
            self.forget(call.request_id)
        return sent

    def forget(self, request_id: str) -> OpenCall | None:
        """Wait for it no longer; its outcome stays as it is. None: it was over."""
        with self._lock:
            return self._waiting.pop(request_id, None)

    def replied(self, request_id: str, inbound: Inbound) -> None:
        """A message came where the reply to `request_id` is awaited."""
        if inbound.retain or not inbound.payload:
            return
        call = self.forget(request_id)
        if call is None:
            self.counts["late_replies"] += 1
            return
        try:
            reply = Reply.decode(inbound.payload)
        except BadRequest as error:
            self.counts["malformed_replies"] += 1
            call.outcome.set_exception(error)
        else:
            call.outcome.set_result(reply)

    def expire(self, now: float) -> None:
        """End what is past its deadline."""
        with self._lock:
            over = [call for call in self._waiting.values() if now >= call.deadline]
        for call in over:
            if self.forget(call.request_id) is not None:
                self.counts["timeouts"] += 1
                late = f"{call.target} did not answer {call.asked} in time; its effect is unknown"
                call.outcome.set_exception(Timeout(late))

    def fail(self, target: str | None, error: SatError) -> None:
        """End what waits for `target`, or (None) all that waits, with `error`."""
        with self._lock:
            over = [call for call in self._waiting.values() if target in (None, call.target)]
        for call in over:
            if self.forget(call.request_id) is not None:
                call.outcome.set_exception(error)

    def _dropped(self, request_id: str, topic: str, cause: str) -> None:
        """The bus has lost a request, and says so on any thread."""
        if cause != "refused":
            return  # what the connection lost may have arrived
        call = self.forget(request_id)
        if call is None:
            return
        refusal = Denied(
            f"the broker does not let {self._client} publish to {topic}: "
            "allow it in the broker's access list"
        )
        if self._post is None:
            call.outcome.set_exception(refusal)
        else:
            self._post(partial(call.outcome.set_exception, refusal))
