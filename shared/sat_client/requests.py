"""Requests with exactly one outcome: a reply, or an error that says what may be wrong.

Nothing is ever queued for later: while the broker is away a request is refused at once, and a reply
that comes after its deadline is counted and ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from sat_bus.contract import bin_batch, topics
from sat_bus.contract import messages as m
from sat_bus.transport.bus import Bus, Inbound
from sat_bus.transport.calls import Calls, OpenCall
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadRequest, HostLost, SatError, Timeout, from_code

GRACE = 1.0


class Offline(HostLost):
    """The broker cannot be reached, so nothing was sent."""


class Requester(Calls):
    """Sends requests as `client`, and blocks the calling thread until the reply is there.

    Args:
        grace: seconds beyond a deadline, for the reply that says that it has passed.
    """

    def __init__(self, bus: Bus, site: str, client: str, *, grace: float = GRACE) -> None:
        super().__init__(bus, site, client)
        self._grace = grace
        (self._filter,) = topics.REPLY.filters(site, client=client)

    @property
    def late(self) -> int:
        """Replies that nobody waited for any more."""
        return self.counts["late_replies"]

    @property
    def malformed(self) -> int:
        """Replies that could not be read."""
        return self.counts["malformed_replies"]

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
        envelope = self.envelope(timeout)
        try:
            payload = m.Request(args=args, boot=boot, **envelope).encode()
        except (TypeError, ValueError) as error:
            raise BadRequest(f"args that JSON has no form for: {error}") from None
        return self._await_reply(topic, payload, envelope["request_id"], timeout, target)

    def exchange_packed(
        self, topic: str, block: FrameBlock, *, timeout: float = 10.0, target: str = ""
    ) -> m.Reply:
        """As `exchange`, with CAN frames as the args."""
        envelope = self.envelope(timeout)
        payload = bin_batch.encode(envelope, block)
        return self._await_reply(topic, payload, envelope["request_id"], timeout, target)

    def call(self, topic: str, args: dict[str, Any], **options: Any) -> m.Reply:
        """As `exchange`, with a reply that reports an error raised as the `SatError` of its
        code."""
        return check(self.exchange(topic, args, **options))

    def echo(self, name: str, heard: Callable[[], None]) -> bool:
        """Send a message to ourselves and call `heard` when it has come round, on the bus's
        dispatch thread.

        By then the broker has sent what it was asked for before. False: not sent.
        """
        payload = m.Reply(status="ok").encode()
        return self.send(self.reply_topic(name), payload, OpenCall(name, _Echo(heard)))

    def _await_reply(
        self, topic: str, payload: bytes, request_id: str, timeout: float, target: str
    ) -> m.Reply:
        future: Future[m.Reply] = Future()
        call = OpenCall(request_id, future, target)
        try:
            if not self._bus.connected or not self.send(topic, payload, call, expiry=timeout):
                raise Offline(
                    "not connected to the broker; nothing was sent. Is it running? See: sat doctor"
                )
            return future.result(timeout + self._grace)
        except FutureTimeout:
            who = f"host {target}" if target else "the orchestrator"
            raise Timeout(
                f"no reply on {topic} within {timeout:g} s; whether it took effect is unknown. "
                f"Is {who} running and not stuck? See: sat doctor"
            ) from None
        finally:
            self.forget(request_id)

    def _on_reply(self, message: Inbound) -> None:
        match = topics.parse(self._site, message.topic)
        if match is not None:
            self.replied(match.levels["id"], message)


class _Echo:
    """The outcome of an echo: nothing but that it came."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard

    def set_result(self, _reply: m.Reply, /) -> None:
        self._heard()

    def set_exception(self, _error: SatError, /) -> None:
        """It never will; whoever asked has a deadline."""


def check(reply: m.Reply) -> m.Reply:
    """`reply`, when it reports success.

    Raises:
        SatError: the class that the reply's code stands for, with its message.
    """
    if reply.status == "error":
        raise from_code(reply.code or "internal", reply.message)
    return reply
