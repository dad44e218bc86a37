"""Requests to driver hosts: `Calls` with the boot that is meant, the epoch of our leadership, and a
little less time for the host than we wait, so that its own account of being late comes first.

A call always ends in a reply: where the host gives none, one in its name says why.
"""

from __future__ import annotations

from typing import Any

from sat_bus.contract import messages, topics
from sat_bus.contract.messages import Reply, Request
from sat_bus.service.loop import WorkLoop
from sat_bus.service.tasks import Promise
from sat_bus.transport.bus import Bus
from sat_bus.transport.calls import Calls, OpenCall
from sat_orchestrator.fleet.leadership import Leadership
from sat_toolkit.errors import BadRequest, Busy, Expired, Indeterminate, Internal, SatError

CAPACITY = 4096
_HEADSTART_S = 0.2


class HostReply(Promise[Reply]):
    """The reply of `host`, awaited on the work loop."""

    __slots__ = ("_boot", "_host")

    def __init__(self, host: str, boot: str) -> None:
        super().__init__()
        self._host, self._boot = host, boot

    def set_exception(self, error: Exception) -> None:
        """There is no reply: `error` becomes one."""
        if not isinstance(error, SatError):
            error = Internal(f"{type(error).__name__}: {error}")
        elif isinstance(error, BadRequest):  # the host said something, whatever it was
            error = Indeterminate(f"the reply of {self._host} cannot be read: {error}")
        self.set_result(messages.failed(None, error, host=self._host, boot=self._boot))


class HostCalls(Calls):
    """What has been asked of hosts and is not answered yet.

    Args:
        client: our own client id; replies come below ``reply/<client>/``.
        leadership: its epoch stands in each request.
        capacity: requests that may wait at a time.
    """

    def __init__(
        self,
        site: str,
        client: str,
        bus: Bus,
        leadership: Leadership,
        loop: WorkLoop,
        *,
        capacity: int = CAPACITY,
    ) -> None:
        super().__init__(bus, site, client, capacity=capacity, post=loop.post)
        self._leadership = leadership
        self._loop = loop

    def ask(
        self,
        host: str,
        boot: str,
        operation: str,
        args: dict[str, Any],
        timeout: float,
        *,
        traceparent: str | None = None,
    ) -> Promise[Reply]:
        """Ask `host` for `operation`; the reply comes within `timeout` seconds.

        Args:
            boot: the boot that it is meant for.
        """
        reply = HostReply(host, boot)
        envelope = self.envelope(timeout - min(_HEADSTART_S, timeout / 4))
        request = Request(
            args=args,
            boot=boot,
            epoch=self._leadership.epoch,
            traceparent=traceparent,
            **envelope,
        )
        deadline = self._loop.now() + timeout
        call = OpenCall(request.request_id or "", reply, host, operation, deadline)
        topic = topics.HOST_REQUEST.build(self._site, host=host, op=operation)
        try:
            sent = self.send(topic, request.encode(), call, expiry=timeout, traceparent=traceparent)
        except Busy as error:
            reply.set_exception(Expired(str(error)))
            return reply
        if not sent:
            away = "the broker is away or its queue full"
            reply.set_exception(Expired(f"the request to {host} could not be sent: {away}"))
        return reply
