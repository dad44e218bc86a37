"""The broker for those who run none and have no Mosquitto: one in pure Python in this process.

It is for demos, laptops and tests; it speaks MQTT 3.1.1 and keeps retained messages in memory. It
is amqtt with its faults mended by subclassing: on each connection it gave the newcomer the retained
messages of other clients' filters, it sent no will when a client id was taken over or a client fell
silent, it left an MQTT 5 client with a will without an answer, and it let any web page in by
WebSocket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import websockets.asyncio.server
from amqtt.adapters import ReaderAdapter
from amqtt.broker import Broker
from amqtt.contexts import ListenerType
from amqtt.errors import BrokerError, MQTTError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from websockets.http11 import Request, Response

from sat_cli.brokers.tcp_ports import check_free, find_free_port
from sat_toolkit.errors import ConfigError

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 3.0
_CONNECT_TIMEOUT_S = 10.0
_TAKE_OVER_TIMEOUT_S = 0.5
_TURNS_OF_AN_ACCEPT = 5  # of the event loop, until a connection that was just accepted has its task
# They report each connection and each client that goes away; what matters of it we say ourselves.
_LIBRARY_LEVELS = {
    "amqtt": logging.ERROR,
    "transitions": logging.ERROR,
    "websockets": logging.CRITICAL,
}


class EmbeddedBroker:
    """An MQTT 3.1.1 broker in a thread of this process, without users: keep it on loopback.

    Args:
        bind: the address to listen on.
        port: 0 picks a free one; `port` tells it.
        ws_port: also listen for WebSocket (0: on a free port); None: do not.
        allowed_origins: web pages that may connect, as ``https://host:port``, beside those of this
            machine.
    """

    kind = "embedded"

    def __init__(
        self,
        bind: str = "127.0.0.1",
        port: int = 1883,
        ws_port: int | None = None,
        allowed_origins: Sequence[str] = (),
    ) -> None:
        self.bind = bind
        self.port = port or find_free_port(bind)
        self.ws_port = find_free_port(bind) if ws_port == 0 else ws_port
        self._origins = frozenset(allowed_origins)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{self._host}:{self.port}"

    @property
    def ws_url(self) -> str | None:
        return None if self.ws_port is None else f"ws://{self._host}:{self.ws_port}"

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start it; when this returns it listens.

        Raises:
            ConfigError: a port is taken, or one cannot listen there.
        """
        for port in (self.port, self.ws_port):
            if port is not None:
                check_free(self.bind, port)
        for name, level in _LIBRARY_LEVELS.items():
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(level)
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name=f"bus/broker/{self.port}", daemon=True
        )  # fmt: skip
        self._thread.start()
        try:
            started.result(_START_TIMEOUT_S)
        except (BrokerError, OSError, TimeoutError) as error:
            self.stop()
            raise ConfigError(
                f"the embedded broker cannot listen on {self.bind}:{self.port}: {error}"
            ) from None
        log.info("the embedded broker runs on %s", self.url)

    def stop(self, timeout: float = 5.0) -> None:
        """End it and its thread; what it retained is gone."""
        loop, stopping, thread = self._loop, self._stopping, self._thread
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)
        if thread is not None:
            thread.join(timeout)
        self._thread = self._loop = self._stopping = None

    @property
    def _host(self) -> str:
        return f"[{self.bind}]" if ":" in self.bind else self.bind

    def _run(self, started: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.set_exception_handler(_report)
                runner.run(self._serve(started))
        except Exception as error:
            if not started.done():
                started.set_exception(error)
            else:
                log.exception("the embedded broker failed")

    async def _serve(self, started: Future[None]) -> None:
        self._stopping = asyncio.Event()
        broker = _Broker(self._config(), self._origins)
        await broker.start()
        started.set_result(None)
        await self._stopping.wait()
        await broker.end()

    def _config(self) -> dict[str, Any]:
        listeners: dict[str, Any] = {
            "default": {"type": "tcp", "bind": f"{self._host}:{self.port}"}
        }
        if self.ws_port is not None:
            listeners["ws"] = {"type": "ws", "bind": f"{self._host}:{self.ws_port}"}
        return {
            "listeners": listeners,
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }


class _Broker(Broker):  # type: ignore[misc]
    """amqtt with its faults mended."""

    def __init__(self, config: dict[str, Any], allowed_origins: frozenset[str]) -> None:
        super().__init__(config)
        self._allowed_origins = allowed_origins
        self._ending: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()

    async def end(self) -> None:
        """Shut down; peers that no longer read cannot hold it up."""
        for server in self._servers.values():
            for sock in server.instance.sockets:
                self._loop.remove_reader(sock.fileno())
        for _ in range(
            _TURNS_OF_AN_ACCEPT
        ):  # asyncio drops what it has accepted when the server closes before that
            await asyncio.sleep(0)
        for server in self._servers.values():
            server.instance.close()
        for transport in list(self._transports):
            transport.abort()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self.shutdown()
                while self._transports:
                    await asyncio.sleep(0.001)
        except TimeoutError:
            log.warning("the embedded broker gives up connections that do not end")

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:  # fmt: skip
        with self._closing(writer.transport):
            await super().stream_connected(reader, writer, listener_name)

    async def ws_connected(
        self, websocket: websockets.asyncio.server.ServerConnection, listener_name: str
    ) -> None:
        with self._closing(websocket.transport):
            await super().ws_connected(websocket, listener_name)

    @contextmanager
    def _closing(self, transport: asyncio.WriteTransport) -> Iterator[None]:
        """amqtt leaves a connection open when the client says nothing, or nonsense."""
        self._transports.add(transport)
        try:
            yield
        finally:
            self._transports.discard(transport)
            transport.close()

    async def _create_server_instance(
        self, listener_name: str, listener_type: ListenerType, address: str | None, port: int, ssl_context: Any
    ) -> Any:  # fmt: skip
        address = None if address is None else address.strip("[]")
        if listener_type is not ListenerType.WS:
            return await super()._create_server_instance(
                listener_name, listener_type, address, port, ssl_context
            )
        return await websockets.asyncio.server.serve(
            partial(self.ws_connected, listener_name=listener_name),
            address,
            port,
            ssl=ssl_context,
            subprotocols=[websockets.Subprotocol("mqtt")],
            process_request=self._check_origin,
            compression=None,
        )

    def _check_origin(
        self, connection: websockets.asyncio.server.ServerConnection, request: Request
    ) -> Response | None:  # fmt: skip
        """Browsers name the page's origin; what names none is no browser."""
        origins = request.headers.get_all("Origin")
        host = request.headers.get("Host", "")
        if all(origin_allowed(origin, host, self._allowed_origins) for origin in origins):
            return None
        log.warning(
            "refused a web page of %s; allow it with allowed_origins", ", ".join(origins)[:200]
        )
        return connection.respond(HTTPStatus.FORBIDDEN, "this origin is not allowed\n")

    async def _initialize_client_session(
        self, reader: Any, writer: Any, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:  # fmt: skip
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                reader = await _check_version(reader, writer)
                handler, session = await super()._initialize_client_session(
                    reader, writer, remote_address, remote_port
                )
        except (OSError, EOFError, TimeoutError) as error:
            raise MQTTError(f"no CONNECT: {error!r}") from error
        session.keep_alive = -(
            -session.keep_alive * 3 // 2
        )  # the grace that MQTT gives, rounded up
        handler.handle_read_timeout = partial(self._end_silent, handler)
        return handler, session

    def _end_silent(self, handler: BrokerProtocolHandler) -> None:
        """The client let its keepalive pass: end the connection, which publishes its will."""
        task = self._loop.create_task(handler.handle_connection_closed())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _delete_session(self, client_id: str) -> None:
        """Before a newcomer takes over: end the connection that has its id, which publishes its
        will."""
        session, handler = self._sessions.get(client_id, (None, None))
        if session is not None and session.transitions.state == "connected":
            log.warning(
                "the client id %r is used twice; the earlier connection is ended", client_id
            )
            await handler.handle_connection_closed()
            deadline = self._loop.time() + _TAKE_OVER_TIMEOUT_S
            while session.transitions.state == "connected" and self._loop.time() < deadline:
                await asyncio.sleep(0.005)
        await super()._delete_session(client_id)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:  # fmt: skip
        subscribers = self._subscriptions.get(subscription[0], [])
        if any(subscriber.client_id == session.client_id for subscriber, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


class _Again(ReaderAdapter):  # type: ignore[misc]
    """A reader that gives what was already read once more, before the rest."""

    def __init__(self, reader: ReaderAdapter) -> None:
        self._reader = reader
        self._seen = bytearray()

    async def peek(self, size: int) -> bytes:
        data: bytes = await self._reader.read(size)
        self._seen += data
        return data

    async def read(self, n: int = -1) -> bytes:
        if not self._seen:
            return bytes(await self._reader.read(n))
        data = bytes(self._seen[:n]) if n >= 0 else bytes(self._seen)
        del self._seen[: len(data)]
        return (
            data
            if len(data) == n
            else data + await self._reader.read(n - len(data) if n >= 0 else n)
        )

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def _check_version(reader: ReaderAdapter, writer: Any) -> ReaderAdapter:
    """Refuse other versions than 3.1.1 by their number: amqtt takes the properties of an MQTT 5
    CONNECT with a will for lengths, and waits for bytes that never come."""
    again = _Again(reader)
    await again.peek(1)
    for _ in range(4):  # the remaining length, up to four bytes
        if (await again.peek(1))[-1:] < b"\x80":
            break
    size = int.from_bytes(await again.peek(2), "big")
    name, level = await again.peek(min(size, 6)), await again.peek(1)
    if name == b"MQTT" and level != b"\x04":
        writer.write(b"\x20\x02\x00\x01")
        await writer.drain()
        await writer.close()
        raise MQTTError(f"MQTT version {level.hex()}; 3.1.1 is spoken here")
    return again


def origin_allowed(origin: str, host: str, allowed: frozenset[str]) -> bool:
    """Whether a web page of `origin` may connect to a listener that it addressed as `host` (the
    Host header).

    Pages from the listener's own machine may, if that is named by an IP address or ``localhost``: a
    name could have been made to point here by the page's owner (DNS rebinding).
    """
    if origin in allowed:
        return True
    try:
        theirs, ours = urlsplit(origin).hostname, urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return theirs is not None and theirs == ours and _cannot_be_rebound(theirs)


def _cannot_be_rebound(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio would print: mostly clients that went away in the middle of something."""
    log.debug("embedded broker: %s (%r)", context.get("message"), context.get("exception"))
