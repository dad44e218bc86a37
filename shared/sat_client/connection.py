"""A client's connection to a site: requests, what comes in, and a picture of the site that keeps
itself true. It knows no device; `Rack` and `Device` stand on it."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.transport.bus import Bus, Handler, Inbound
from sat_bus.transport.endpoint import parse_url
from sat_bus.transport.mqtt import MqttBus
from sat_client.feed import Feed
from sat_client.inbox import QUEUE
from sat_client.requests import Offline, Requester
from sat_client.streams import Form, Watch, rows_of
from sat_client.view import SiteView
from sat_toolkit.errors import HostLost, Indeterminate, Timeout

DEFAULT_URL = "mqtt://127.0.0.1:1883"
DEFAULT_SITE = "lab"
CONNECT_TIMEOUT = 5.0
SYNC_TIMEOUT = 2.0
ORCHESTRATOR_GRACE = 3.0
_WATCHED = (
    topics.HOST_STATE, topics.HOST_BIRTH, topics.DEVICE_STATUS, topics.DEVICE_META, topics.ORCHESTRATOR_STATE,
    topics.TABLE_ROW,
)  # fmt: skip
_T = TypeVar("_T")


class RackConnection:
    """A connection to a site. `Rack`, which stands on it, says what the arguments are."""

    def __init__(
        self,
        url: str | None = None,
        *,
        site: str | None = None,
        client: str | None = None,
        tls_ca: Path | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.url = url or os.environ.get("SAT_BROKER_URL") or DEFAULT_URL
        self.site = site or os.environ.get("SAT_SITE") or DEFAULT_SITE
        unique = uuid.uuid4().hex[:12]
        self.endpoint = parse_url(self.url)
        self.client = client or self.endpoint.username or f"client-{unique}"
        ca = os.environ.get("SAT_TLS_CA")
        self._tls_ca = tls_ca or (Path(ca) if ca else None)
        self.orchestrator_grace = ORCHESTRATOR_GRACE
        self._bus = bus
        self._bus_id = f"{self.client[:48]}-{unique}"
        self._requests: Requester | None = None
        self._view = SiteView(self.site)
        self._changed = threading.Condition()
        self._synced = False
        self._syncs = 0
        self._fans: dict[str, list[Handler]] = {}
        self._readers: weakref.WeakSet[Feed | Watch] = weakref.WeakSet()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(
        self, timeout: float = CONNECT_TIMEOUT, *, refused_timeout: float | None = None
    ) -> Self:
        """Connect, and wait until everything that the broker has kept of the site is here.

        Args:
            timeout: seconds to wait for the broker.
            refused_timeout: seconds to wait when its machine answers that nothing listens there, as
                it does while a broker is starting; default `timeout`.

        Raises:
            Offline: the broker does not answer in that time.
        """
        bus = self._bus = self._bus or MqttBus(self.url, self._bus_id, tls_ca=self._tls_ca)
        self._requests = Requester(bus, self.site, self.client)
        self._requests.open()
        for topic in _WATCHED:
            for subscription in topic.filters(self.site):
                self.attach(subscription, self._on_retained)
        bus.on_connection(self._on_connection)
        try:
            self._await_broker(
                bus, timeout, timeout if refused_timeout is None else min(timeout, refused_timeout)
            )
            self._await_sync()
        except BaseException:
            self.close()
            raise
        return self

    def _await_broker(self, bus: Bus, timeout: float, refused_timeout: float) -> None:
        network = bus if isinstance(bus, MqttBus) else None
        waited = refused_timeout
        up = bus.start(waited)
        if not up and waited < timeout and not (network and network.refused):
            waited = timeout
            up = bus.start(timeout - refused_timeout)
        if not up:
            why = f" ({network.problem})" if network and network.problem else ""
            raise Offline(
                f"no broker answers at {self.endpoint} within {waited:g} s{why}; see: sat doctor"
            )

    def close(self) -> None:
        """Disconnect and end all watches; harmless when done twice."""
        requests, bus = self._requests, self._bus
        if bus is None or requests is None:
            return
        self._requests = None
        for reader in list(self._readers):
            reader.close()
        self._fans.clear()
        requests.close()
        bus.close()

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._bus is not None and self._requests is not None and self._bus.connected

    @property
    def bus(self) -> Bus:
        """The connection itself.

        Raises:
            Offline: the rack is not open.
        """
        if self._bus is None or self._requests is None:
            raise Offline("the rack is not open; use it in a with statement, or call open()")
        return self._bus

    @property
    def requests(self) -> Requester:
        """The request and reply side of the connection.

        Raises:
            Offline: the rack is not open.
        """
        if self._requests is None:
            raise Offline("the rack is not open; use it in a with statement, or call open()")
        return self._requests

    # -- what may be asked -----------------------------------------------------------------------

    def orchestrate(self, op: str, args: dict[str, Any], *, timeout: float = 30.0) -> m.Reply:
        """A request to the orchestrator: scan initialize connect reset close list forget cleanup.

        Raises:
            HostLost: none is running.
            SatError: it was refused, failed, or no answer came.
        """
        self.need_orchestrator()
        topic = topics.ORCHESTRATOR_REQUEST.build(self.site, op=op, client=self.client)
        return self.requests.call(topic, args, timeout=timeout)

    def need_orchestrator(self) -> None:
        """Raise `HostLost` when no orchestrator is there to answer, so that nobody waits in vain.

        One that is just starting, as when a whole bench comes up, is waited for:
        `orchestrator_grace` seconds.
        """

        if self.reached(_has_orchestrator, self.orchestrator_grace):
            return
        with self.reading() as view:
            state = "has stopped" if view.orchestrator else "was never seen"
        raise HostLost(
            f"the orchestrator of site {self.site} {state}; start it: sat orchestrator (or sat up)"
        )

    def watch(
        self,
        *,
        form: Form = "auto",
        capacity: int = QUEUE,
        from_start: bool = False,
        levels: Mapping[str, str] | None = None,
    ) -> Watch:
        """The batches of all streams from now on, or of those whose topic's `levels` are as given;
        close it when done.

        Args:
            form: ``json``, ``bin``, or ``auto`` for whatever is published: ``bin`` where a stream
                comes in both. Who names the form that is there spares the network the other.
            capacity: batches that wait for the reader; beyond that the oldest fall out, and are
                counted.
            from_start: no stream runs yet.
        """
        subscriptions = self._subscriptions(rows_of(form), levels or {})
        watch = Watch(
            self.site, subscriptions, self.attach, capacity=capacity, from_start=from_start
        )
        self._readers.add(watch)
        return watch

    def feed(self, *rows: topics.Topic, capacity: int = QUEUE, **levels: str) -> Feed:
        """The messages of these rows of the contract from now on, where `levels` are as given;
        close it when done."""
        feed = Feed(self.site, self._subscriptions(rows, levels), self.attach, capacity=capacity)
        self._readers.add(feed)
        return feed

    def _subscriptions(
        self, rows: tuple[topics.Topic, ...], levels: Mapping[str, str]
    ) -> tuple[str, ...]:
        return tuple(
            subscription for row in rows for subscription in row.filters(self.site, **levels)
        )

    # -- the picture of the site -----------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[SiteView]:
        """The view, which does not change meanwhile; be quick."""
        with self._changed:
            yield self._view

    def read(self, question: Callable[[SiteView], _T]) -> _T:
        """The answer of `question` to the view, which does not change meanwhile; it must be
        quick."""
        with self._changed:
            return question(self._view)

    def reached(self, condition: Callable[[SiteView], bool], timeout: float) -> bool:
        """Whether `condition` comes to hold of the view within `timeout` seconds; it is asked again
        at every change."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition(self._view):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def wait_until(
        self, condition: Callable[[SiteView], bool], timeout: float, what: Callable[[], str]
    ) -> None:
        """Wait until `condition` holds of the view; it is asked again at every change.

        Raises:
            Timeout: it does not hold after `timeout` seconds; the message is `what()`.
        """
        if not self.reached(condition, timeout):
            raise Timeout(f"{what()}, after {timeout:g} s")

    # -- what comes in ---------------------------------------------------------------------------

    def attach(self, subscription: str, handler: Handler) -> Callable[[], None]:
        """Call `handler` for what `subscription` catches, beside others that listen to the same;
        the function returned ends that."""
        with self._changed:
            fan = self._fans.setdefault(subscription, [])
            fan.append(handler)
            first = len(fan) == 1
        if first:
            self.bus.subscribe(subscription, partial(self._spread, subscription))
        return partial(self._detach, subscription, handler)

    def _detach(self, subscription: str, handler: Handler) -> None:
        with self._changed:
            fan = self._fans.get(subscription, [])
            if handler in fan:
                fan.remove(handler)
            last = not fan and self._fans.pop(subscription, None) is not None
        if last and self._bus is not None and self._requests is not None:
            self._bus.unsubscribe(subscription)

    def _spread(self, subscription: str, message: Inbound) -> None:
        with self._changed:
            handlers = list(self._fans.get(subscription, ()))
        for handler in handlers:
            handler(message)

    def _on_connection(self, up: bool) -> None:
        with self._changed:
            self._synced = False
            self._syncs += 1
            number = self._syncs
            if (
                not up
            ):  # now, because retained messages may come before the news of the next connection
                self._view.begin_sync()
            self._changed.notify_all()
        if self._requests is not None:
            self._requests.forget(self._echo_name(number - 1))
            if up:
                self._requests.echo(self._echo_name(number), partial(self._on_synced, number))

    def _echo_name(self, number: int) -> str:
        return f"sync-{self._bus_id[-12:]}-{number}"

    def _on_synced(self, number: int) -> None:
        with self._changed:
            if number == self._syncs:
                self._view.end_sync()
                self._synced = True
                self._changed.notify_all()

    def _on_retained(self, message: Inbound) -> None:
        with self._changed:
            match = self._view.apply(message.topic, message.payload)
            host = (
                self._view.hosts.get(match.levels["host"])
                if match and "host" in match.levels
                else None
            )
            lost = host if host is not None and host.said is not None and not host.alive else None
            self._changed.notify_all()
        if lost is not None and self._requests is not None:
            error = Indeterminate(
                f"the host {lost.name} was {lost.state} before it replied; its effect is unknown"
            )
            self._requests.fail(lost.name, error)

    def _await_sync(self) -> None:
        """Wait for the echo that follows the retained messages, then for what the births say is
        missing.

        Both waits are bounded: a broker may forbid the echo, and some brokers send retained
            messages late.
        """
        deadline = time.monotonic() + SYNC_TIMEOUT
        self.reached(self._is_synced, SYNC_TIMEOUT)
        self.reached(SiteView.complete, max(0.0, deadline - time.monotonic()))

    def _is_synced(self, _view: SiteView) -> bool:
        return self._synced


def _has_orchestrator(view: SiteView) -> bool:
    return view.orchestrator is not None and view.orchestrator.state == "ready"
