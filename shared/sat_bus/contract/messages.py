"""Every payload of the bus contract as a frozen model, and the parsing of requests. PURE.

Times `at`, `since`, `clock`, `t`, `t0` are seconds since the Unix epoch (UTC); `mono_ms` is the
sender's monotonic clock in milliseconds and means something only to compare with another of the
same boot. Unknown fields are refused in requests and ignored in everything else, so that a newer
sender is understood.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sat_bus.contract import strict_json
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadArgs, BadRequest, Code, SatError

NAME_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}$"
MAX_TIMEOUT_MS = 600_000
EXPLICIT = "explicit"  # the policy of a row whose `desired` is a client's

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ArbitrationId = Annotated[
    str, StringConstraints(pattern=r"^(0[xX][0-9A-Fa-f]{1,8}|[1-9][0-9]{0,9}|0)$")
]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Level = Literal["disconnected", "initialized", "connected"]
Quality = Literal["good", "lost"]


class Message(BaseModel):
    """Base of all that services publish."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> bytes:
        """The payload: JSON, fields that are None left out."""
        try:
            return self.model_dump_json(exclude_none=True).encode()
        except (
            ValueError
        ):  # text that UTF-8 has no form for, such as a file's name in a driver's complaint
            return strict_json.dumps(self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def decode(cls, payload: bytes, *, max_bytes: int = 262_144) -> Self:
        """The message in `payload`.

        Raises:
            BadRequest: it is not this message; the message names the field.
        """
        try:
            return cls.model_validate(strict_json.loads(payload, max_bytes=max_bytes))
        except ValidationError as error:
            raise BadRequest(explain(error)) from None


class Demand(Message):
    """Base of all that clients send: unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# -- hosts ---------------------------------------------------------------------------------------


class HostState(Message):
    state: Literal["init", "ready", "draining", "offline", "lost"]
    boot: str


class DriverInfo(Message):
    """A driver of a host; `error` says why it cannot be used."""

    name: str
    error: str | None = None


class Manifest(Message):
    """What a host has published: so many devices, the highest `rev` among them."""

    count: int
    rev: int


class Birth(Message):
    boot: str
    family: str
    drivers: list[DriverInfo]
    manifest: Manifest
    epoch_seen: int
    version: str
    clock: float


class Heartbeat(Message):
    boot: str
    n: int
    mono_ms: int


class Health(Message):
    """Once a second: queue lengths, frames and messages dropped by cause, workers by state, memory,
    bus."""

    boot: str
    queues: dict[str, int] = {}
    drops: dict[str, int] = {}
    workers: dict[str, int] = {}
    memory_kb: int = 0
    bus: dict[str, int] = {}


# -- devices -------------------------------------------------------------------------------------


class StreamStatus(Message):
    """A stream of a device. `by` is who started or stopped it last, `args` what it was started
    with, `dropped` the frames lost of it so far, by cause; brought up to date once a second."""

    state: Literal["running", "stopped"]
    stream: str
    by: str
    args: dict[str, Any] = {}
    dropped: dict[str, int] = {}


class Status(Message):
    state: DeviceState
    previous: DeviceState
    since: float
    rev: int
    boot: str
    by: str
    reason: str = ""
    operation: str = ""
    acquiring: bool = False
    streams: dict[str, StreamStatus] = {}
    quality: Quality = "good"
    quarantined: bool = False
    last_known: DeviceState | None = None


class CommandInfo(Message):
    description: str = ""
    parameters: dict[str, Any] = {}
    timeout_ms: int | None = None


class Meta(Message):
    """What a device is. `commands` maps a name to its description and the JSON Schema of its
    args."""

    name: str
    device_type: str
    attributes: dict[str, Any] = {}
    hardware_id: str | None = None
    commands: dict[str, CommandInfo] = {}
    streams: list[str] = []


class JsonBatch(Message):
    """Frames of one stream. `seq` is the index of the first in the stream, `n` how many there are;
    `dropped` is the running total of frames known lost before the bus, by cause; `thinned` that of
    frames left out on purpose, which have no numbers."""

    stream: str
    boot: str
    seq: int
    n: int
    t0: float
    dropped: dict[str, int] = {}
    channel: str
    thinned: int = 0
    frames: list[dict[str, Any]]


class Event(Message):
    """Something that happened; fields beyond these belong to the event's kind. What a driver
    reports by itself is `driver.<name>` with its fields in `data`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event: str
    at: float
    boot: str = ""
    rev: int = 0


# -- orchestrator --------------------------------------------------------------------------------


class OrchestratorState(Message):
    state: Literal["init", "ready", "offline"]
    id: str
    epoch: int


class Desired(Demand):
    """Where a device should be: a level, and the streams to run with the args of their start."""

    level: Level
    streams: dict[str, dict[str, Any]] = {}


class TableRow(Message):
    """A device as the orchestrator sees it. `policy` names what `desired` comes from: a rule or
    `explicit`."""

    observed: DeviceState
    desired: Desired | None = None
    quality: Quality
    policy: str
    rev: int
    hardware_id: str | None = None
    last_known: DeviceState | None = None
    reason: str = ""
    held: str = ""
    attempts: int = 0


# -- requests and replies ------------------------------------------------------------------------


class Request(Demand):
    """The envelope. Everything but `args` is optional."""

    args: dict[str, Any]
    request_id: Name | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] | None = None
    reply_to: Annotated[str, StringConstraints(max_length=512)] | None = None
    boot: str | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None
    traceparent: Annotated[str, StringConstraints(max_length=256)] | None = None


class Reply(Message):
    """The one outcome of a request. `code` and `message` say what failed and what would be
    accepted."""

    request_id: str | None = None
    status: Literal["ok", "error"]
    code: Code | None = None
    message: str = ""
    retryable: bool = False
    result: Any = None
    state: DeviceState | None = None
    duration_ms: float = 0.0
    host: str = ""
    boot: str = ""


class ScanArgs(Demand):
    host: Name | None = None
    driver: str | None = None


class DeviceArgs(Demand):
    """Names a device; `host` and `driver` may be left out where the rest is unambiguous."""

    host: Name | None = None
    driver: str | None = None
    device: str


class StartArgs(Demand):
    """Of ``host/<host>/req/start``: run the driver's start command for a stream that is desired."""

    driver: str
    device: str
    stream: str
    args: dict[str, Any] = {}


class DeliveryArgs(Demand):
    """How streams are delivered: the ``stream`` among the args of any driver's start command.

    `window_ms` is how long frames are gathered into a batch; `max_hz` how many frames of each
    arbitration id go out per second, one figure for all or ``{"0x123": 10}``.
    """

    formats: Annotated[list[Literal["json", "bin"]], Field(min_length=1, max_length=2)] | None = (
        None
    )
    window_ms: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_hz: Rate | Annotated[dict[ArbitrationId, Rate], Field(max_length=1000)] | None = None


class CleanupArgs(Demand):
    """The devices to close, as `DeviceArgs.device` names them; all where none are named."""

    devices: Annotated[list[str], Field(max_length=1000)] | None = None


class ListArgs(Demand):
    host: Name | None = None
    driver: str | None = None


ArgsT = TypeVar("ArgsT", bound=Demand)


class MalformedRequest(BadRequest):
    """A request that could be read far enough to know whom to tell.

    Attributes:
        request_id: the id in it, when there is a valid one.
        reply_to: the reply topic in it, not yet checked against who may name it.
    """

    def __init__(
        self, message: str, request_id: str | None = None, reply_to: str | None = None
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.reply_to = reply_to


def parse_request(payload: bytes) -> Request:
    """The request in `payload`: an envelope, or an object without the key ``args``, which is the
    args.

    Raises:
        MalformedRequest: neither; the message says what is wrong and what would be accepted.
    """
    try:
        value = strict_json.loads(payload)
    except BadRequest as error:
        raise MalformedRequest(str(error)) from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise MalformedRequest(
            f'a JSON object is accepted, such as {{}} or {{"args": {{}}}}; this is a {kind}'
        )
    if "args" not in value:
        return Request(args=value)
    return _envelope(value)


def parse_set_request(payload: bytes) -> Request:
    """The envelope of a ``set``: a word (bare or as a JSON string) becomes the args ``{"level":
    word}``.

    Raises:
        MalformedRequest: as `parse_request`.
    """
    word = payload.strip().strip(b'"')
    if re.fullmatch(rb"[A-Za-z_]{1,32}", word):
        return Request(args={"level": word.decode()})
    return parse_request(payload)


def parse_desired(request: Request) -> Desired | None:
    """What the args of a ``set`` desire: the levels connected, initialized, disconnected, or an
    object ``{"level", "streams"}``. None stands for auto.

    Raises:
        BadArgs: they are neither.
    """
    if request.args == {"level": "auto"}:
        return None
    try:
        return Desired.model_validate(request.args)
    except ValidationError as error:
        raise BadArgs(
            f"{explain(error)}; accepted: connected, initialized, disconnected, auto, "
            'or {"level": "connected", "streams": {"can": {}}}'
        ) from None


def parse_args(model: type[ArgsT], request: Request) -> ArgsT:
    """The args of `request` as `model`.

    Raises:
        BadArgs: they do not fit; the message names the field and what is accepted.
    """
    try:
        return model.model_validate(request.args)
    except ValidationError as error:
        raise BadArgs(f"{explain(error)}; accepted: {', '.join(model.model_fields)}") from None


def ok(request: Request, *, host: str, boot: str, result: Any = None, **fields: Any) -> Reply:
    """The reply of success to `request`."""
    return Reply(
        request_id=request.request_id, status="ok", result=result, host=host, boot=boot, **fields
    )  # fmt: skip


def failed(
    request_id: str | None, error: SatError, *, host: str, boot: str, **fields: Any
) -> Reply:
    """The reply that carries `error`."""
    return Reply(
        request_id=request_id,
        status="error",
        code=error.code,
        message=str(error),
        retryable=error.retryable,
        host=host,
        boot=boot,
        **fields,
    )


def explain(error: ValidationError) -> str:
    """What pydantic found, in one line: ``field: what is wrong``, at most three of them."""
    found = error.errors(include_url=False, include_context=False)
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'payload'}: {item['msg']}"
        for item in found[:3]
    ]
    more = f" (+{len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(lines) + more


def _envelope(value: dict[str, Any]) -> Request:
    try:
        return Request.model_validate(value)
    except ValidationError as error:
        request_id, reply_to = value.get("request_id"), value.get("reply_to")
        valid_id = isinstance(request_id, str) and re.fullmatch(NAME_PATTERN, request_id)
        raise MalformedRequest(
            f"{explain(error)}; accepted beside args: {', '.join(n for n in Request.model_fields if n != 'args')}",
            request_id if valid_id else None,
            reply_to if isinstance(reply_to, str) else None,
        ) from None
