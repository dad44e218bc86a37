"""A device as a client sees it: a handle by name. It holds no state of its own; the rack's view
does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sat_bus.contract import messages as m
from sat_bus.contract import strict_json, topics
from sat_bus.contract.device_key import Key
from sat_client.connection import RackConnection
from sat_client.gaps import Gap
from sat_client.inbox import QUEUE
from sat_client.requests import Offline, check
from sat_client.sending import Sent, packed, send_packed
from sat_client.streams import Form, Frames, Watch
from sat_client.view import DeviceView
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs, HostLost, Timeout, UnknownDevice

LEVELS = ("disconnected", "initialized", "connected", "auto")
LIFECYCLE_TIMEOUT = 30.0


class Device:
    """A device of a rack; ``rack.device("ecu")`` makes one. Two handles of one device are equal."""

    def __init__(self, connection: RackConnection, key: Key) -> None:
        self.key = key
        self._connection = connection

    def __repr__(self) -> str:
        return f"Device({str(self.key)!r}, {self.state})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Device)
            and other.key == self.key
            and other._connection is self._connection
        )

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def id(self) -> str:
        """The device id that the driver gave it."""
        return self.key.device

    @property
    def driver(self) -> str:
        return self.key.driver

    @property
    def host(self) -> str:
        """The driver host that it belongs to."""
        return self.key.host

    @property
    def state(self) -> DeviceState:
        """The present state; `UNKNOWN` when its host is gone."""
        with self._connection.reading() as view:
            return view.state(self.key)

    @property
    def quality(self) -> m.Quality:
        """``good``, or ``lost`` when its host is gone and nothing certain is known."""
        with self._connection.reading() as view:
            return "lost" if view.lost(self.key) else "good"

    @property
    def status(self) -> m.Status | None:
        """What the bus says last: state, reason, streams, who did it; None before anything was
        said."""
        seen = self._seen()
        return seen.status if seen is not None else None

    @property
    def meta(self) -> m.Meta | None:
        """What the device is and which commands it takes."""
        seen = self._seen()
        return seen.meta if seen is not None else None

    @property
    def row(self) -> m.TableRow | None:
        """The device's row in the orchestrator's table: what is desired of it, and why."""
        seen = self._seen()
        return seen.row if seen is not None else None

    def do(self, command: str, /, *, timeout: float = 10.0, **args: Any) -> Any:
        """Run a command of the driver and return its result.

        `request` takes args whose names are Python's or ours, such as ``timeout``.

        Raises:
            SatError: the class of the reply's code: `UnknownCommand`, `BadArgs`, `BadState`,
                `Busy`, `DriverError`, ...; `HostLost` and `Timeout` when no answer came.
        """
        return check(self.request(command, args, timeout=timeout)).result

    def request(
        self, command: str, args: Mapping[str, Any] | None = None, *, timeout: float = 10.0
    ) -> m.Reply:
        """As `do`, with the whole reply, also when it reports an error."""
        boot = self._living_host()
        topic = topics.COMMAND.build(
            self._connection.site, **self._levels(), command=command, client=self._connection.client
        )
        return self._connection.requests.exchange(
            topic, dict(args or {}), timeout=timeout, target=self.host, boot=boot
        )

    def set(
        self,
        level: str,
        streams: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        timeout: float = 10.0,
    ) -> m.Reply:
        """Say where the device should be: ``connected``, ``initialized``, ``disconnected``, or
        ``auto`` for what policy says; `streams` are those to run, each with the args of its start.
        The orchestrator brings it there and keeps it there; `wait_for` waits for that.

        Raises:
            SatError: it was refused; what was desired before stands.
        """
        if level not in LEVELS:
            raise BadArgs(f"level {level!r}: {', '.join(LEVELS)} are accepted")
        self._connection.need_orchestrator()
        args: dict[str, Any] = {"level": level}
        if streams is not None:
            args["streams"] = {name: dict(start) for name, start in streams.items()}
        topic = topics.SET.build(
            self._connection.site, **self._levels(), client=self._connection.client
        )
        return self._connection.requests.call(topic, args, timeout=timeout)

    def initialize(self, *, timeout: float = LIFECYCLE_TIMEOUT) -> m.Reply:
        """Initialise the device; returns when it is done. Raises `SatError`."""
        return self._lifecycle("initialize", timeout)

    def connect(self, *, timeout: float = LIFECYCLE_TIMEOUT) -> m.Reply:
        """Connect the device, after finding and initialising it where needed. Raises `SatError`."""
        return self._lifecycle("connect", timeout)

    def reset(self, *, timeout: float = LIFECYCLE_TIMEOUT) -> m.Reply:
        """Reset the device: streams stop, it ends disconnected. Raises `SatError`."""
        return self._lifecycle("reset", timeout)

    def close(self, *, timeout: float = LIFECYCLE_TIMEOUT) -> m.Reply:
        """Close the device: it ends disconnected and stays so until it is wanted again. Raises
        `SatError`."""
        return self._lifecycle("close", timeout)

    def release(self, *, timeout: float = 10.0) -> m.Reply:
        """End the device's quarantine, when what killed its worker is mended. Raises `SatError`."""
        return self._lifecycle("release", timeout)

    def wait_for(self, state: DeviceState | str, timeout: float = 10.0) -> None:
        """Wait until the device is in `state`; being busy (active) counts as connected.

        Raises:
            Timeout: it is not there after `timeout` seconds; the message says where it is and why.
        """
        wanted = {DeviceState(state)}
        if DeviceState.CONNECTED in wanted:
            wanted.add(DeviceState.ACTIVE)
        if not self._connection.reached(lambda view: view.state(self.key) in wanted, timeout):
            raise Timeout(f"{self._where(state)}, after {timeout:g} s")

    def watch(
        self, stream: str | None = None, *, form: Form = "auto", capacity: int = QUEUE
    ) -> Watch:
        """The device's batches from now on, of one type of stream or of all; close it when done.
        `Rack.watch` says what `form` and `capacity` are."""
        levels = self._levels() if stream is None else {**self._levels(), "stream": stream}
        return self._connection.watch(form=form, capacity=capacity, levels=levels)

    def frames(
        self,
        stream: str | None = None,
        *,
        form: Form = "auto",
        on_gap: Callable[[Gap], object] | None = None,
        capacity: int = QUEUE,
    ) -> Frames:
        """As `watch`, frame by frame; `on_gap` is called with what is missing, before the frame
        that follows it."""
        return Frames(self.watch(stream, form=form, capacity=capacity), on_gap)

    def send(self, *frames: Mapping[str, Any], stream: str = "can") -> None:
        """Send frames to the device, each ``{"id": 0x123, "data": "deadbeef"}`` and so on, without
        waiting for an answer; `send_frames` waits for one.

        Raises:
            HostLost, UnknownDevice, Offline: nothing was sent.
        """
        self._living_host()
        topic = topics.INPUT_JSON.build(
            self._connection.site, **self._levels(), stream=stream, client=self._connection.client
        )
        if not self._connection.bus.publish(
            topic, strict_json.dumps({"frames": [dict(frame) for frame in frames]})
        ):
            raise Offline("not connected to the broker, or its queue is full; nothing was sent")

    def send_frames(
        self,
        frames: FrameBlock | Iterable[Mapping[str, Any]],
        *,
        stream: str = "can",
        confirm: bool = True,
        timeout: float = 10.0,
    ) -> Sent | None:
        """Send CAN frames packed, any number of them; say what became of each.

        Args:
            frames: dicts as for `send`, with an integer ``id``; or a block.
            confirm: wait for the answers; without them None is returned as soon as the frames are
                on their way.
            timeout: seconds for each batch of up to 4096 frames.

        Raises:
            BadArgs: one of them is not a CAN frame; nothing was sent.
            SatError: a batch was refused, or no answer came; a note says how many frames were sent
                before it.
        """
        block = packed(frames)
        self._living_host()
        topic = topics.INPUT_BIN.build(
            self._connection.site, **self._levels(), stream=stream, client=self._connection.client
        )
        requests = self._connection.requests if confirm else None
        return send_packed(
            self._connection.bus, requests, topic, block, host=self.host, timeout=timeout
        )

    def _seen(self) -> DeviceView | None:
        """What has been seen of it; each part is one message, and is replaced and never changed."""
        with self._connection.reading() as view:
            return view.devices.get(self.key)

    def _levels(self) -> dict[str, str]:
        return {"host": self.host, "driver": self.driver, "device": self.id}

    def _lifecycle(self, op: str, timeout: float) -> m.Reply:
        return self._connection.orchestrate(op, self._levels(), timeout=timeout)

    def _living_host(self) -> str | None:
        """The boot of the device's host, so that a request never runs on another one.

        Raises:
            HostLost, UnknownDevice: nobody is there who could answer, so that asking would only
                waste time.
        """
        with self._connection.reading() as view:
            host, device = view.hosts.get(self.host), view.devices.get(self.key)
        if host is not None and not host.alive:
            raise HostLost(
                f"the host {self.host} of device {self.id} is {host.state}; start it: sat host --family ..."
            )
        if device is None:
            raise UnknownDevice(
                f"Device {self.id} not found: {self.key} is not on site {self._connection.site}"
            )
        return host.boot if host is not None else None

    def _where(self, wanted: str) -> str:
        status = self.status
        why = f" ({status.reason})" if status and status.reason else ""
        return f"{self.key} is {self.state}{why}, not {wanted}"
