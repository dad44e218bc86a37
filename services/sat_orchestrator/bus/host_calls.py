"""Requests to driver hosts: sent with an id, a deadline and the host's boot, and each over exactly
once.

A reply that never comes is an outcome too: `timeout`, its effect unknown. Lives on the work loop
alone.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import Reply, Request
from sat_bus.transport.bus import Bus
from sat_toolkit.errors import Expired, HostLost, SatError, Timeout

CAPACITY = 4096
_HEADSTART_S = 0.2

Done = Callable[[Reply], None]


@dataclass
class _Call:
    host: str
    boot: str
    operation: str
    deadline: float
    done: Done


class HostCalls:
    """What has been asked of hosts and is not answered yet.

    Args:
        client: our own client id; replies come below ``reply/<client>/``.
        epoch: gives the epoch of our leadership.
        clock: monotonic seconds.
    """

    def __init__(
        self, site: str, client: str, bus: Bus, epoch: Callable[[], int], clock: Callable[[], float]
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter()
        self._site, self._client = site, client
        self._bus = bus
        self._epoch = epoch
        self._clock = clock
        self._waiting: dict[str, _Call] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def send(
        self,
        host: str,
        boot: str,
        operation: str,
        args: dict[str, Any],
        timeout: float,
        done: Done,
        *,
        traceparent: str | None = None,
    ) -> None:
        """Ask `host` for `operation`; `done` gets the outcome, at once where it cannot be sent.

        Args:
            boot: the boot that it is meant for.
            timeout: seconds until it is over in any case; the host is given a little less, so that
                its own account of being late comes in time.
        """
        if len(self._waiting) >= CAPACITY:
            self._fail(
                _Call(host, boot, operation, 0.0, done),
                Expired(f"{CAPACITY} requests wait for hosts already"),
            )
            return
        request_id = uuid.uuid4().hex  # hosts remember the ids of those before us
        call = _Call(host, boot, operation, self._clock() + timeout, done)
        request = Request(
            args=args,
            request_id=request_id,
            timeout_ms=max(1, int((timeout - min(_HEADSTART_S, timeout / 4)) * 1000)),
            reply_to=topics.REPLY.build(self._site, client=self._client, id=request_id),
            boot=boot,
            epoch=self._epoch(),
            traceparent=traceparent,
        )
        topic = topics.HOST_REQUEST.build(self._site, host=host, op=operation)
        self._waiting[request_id] = call
        if not self._bus.publish(
            topic, request.encode(), expiry_s=timeout, traceparent=traceparent
        ):
            del self._waiting[request_id]
            self._fail(
                call,
                Expired(
                    f"the request to {host} could not be sent: the broker is away or its queue full"
                ),
            )

    def replied(self, request_id: str, reply: Reply) -> None:
        """A reply came; one that nobody waits for is late, and counted."""
        call = self._waiting.pop(request_id, None)
        if call is None:
            self.counts["late_replies"] += 1
            return
        call.done(reply)

    def expire(self) -> None:
        """End what is past its deadline."""
        now = self._clock()
        for request_id in [key for key, call in self._waiting.items() if now >= call.deadline]:
            call = self._waiting.pop(request_id)
            self.counts["timeouts"] += 1
            self._fail(
                call,
                Timeout(
                    f"{call.host} did not answer {call.operation} in time; its effect is unknown"
                ),
            )

    def host_gone(self, host: str, reason: str) -> None:
        """End what waits for `host`: it is lost, or its boot is over."""
        for request_id in [key for key, call in self._waiting.items() if call.host == host]:
            call = self._waiting.pop(request_id)
            self._fail(call, HostLost(f"{reason}; the effect of {call.operation} is unknown"))

    def _fail(self, call: _Call, error: SatError) -> None:
        call.done(messages.failed(None, error, host=call.host, boot=call.boot))
