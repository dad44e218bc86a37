"""Every message between a host and its workers, as a type. PURE.

Down go one `Configure`, then calls, which are answered one by one, and notices, which want no
answer. Up come the answers to calls, events, and batches of frames. `wire` carries them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sat_host.delivery import Delivery, DeliveryChanges
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import Code

# -- down ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits of one worker and all it starts.

    Attributes:
        memory_mb: resident memory together, and the data size of each process, in MiB.
        processes: how many, itself included.
        files: open files of each process.
        silence_s: seconds without any sign of life before it is killed.
    """

    memory_mb: int = 1024
    processes: int = 64
    files: int = 1024
    silence_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Configure:
    """The first message: what the worker is for.

    Attributes:
        driver, family, path: the plugin file.
        info: the driver's configuration.
        delivery: how streams are delivered where a start says nothing else.
        device: a Device as a dict; None for a worker that only scans.
    """

    driver: str
    family: str
    path: str
    info: dict[str, Any]
    limits: WorkerLimits
    delivery: Delivery
    device: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Describe:
    """A call: what does the driver declare? Answered by `Description`."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A call: which devices are there? The result is a list of Devices as dicts, each with its
    ``hardware_id``."""


@dataclass(frozen=True, slots=True)
class RunHook:
    """A call: one step of the lifecycle, `hook` being initialize, connect, reset or close."""

    hook: str


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A call: a command of the driver, its args checked. `delivery`: what a start says of the
    delivery of streams, with its defaults where it says nothing; None for any other command."""

    command: str
    args: dict[str, Any]
    delivery: DeliveryChanges | None = None


@dataclass(frozen=True, slots=True)
class SendFrames:
    """A call: frames of ``in/can/bin`` for the device. The result says what became of each."""

    block: FrameBlock


@dataclass(frozen=True, slots=True)
class TakeInput:
    """Items of ``in/<stream>/json`` for the device."""

    stream: str
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Halt:
    """The device is in ERROR: its stream has to end."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Give a sign of life."""


@dataclass(frozen=True, slots=True)
class Exit:
    """End by yourself."""


Call = Describe | Scan | RunHook | RunCommand | SendFrames
Notice = TakeInput | Halt | Ping | Exit


@dataclass(frozen=True, slots=True)
class Asked:
    """A call on its way: `call` is the number that stands in its answer."""

    call: int
    request: Call


Down = Configure | Asked | Notice

# -- up --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The call `call` has succeeded."""

    call: int
    result: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call `call` has failed. `fatal`: the device is in ERROR now."""

    call: int
    code: Code
    message: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class HardwareChanged:
    """The driver's own watch says that hardware came or went."""


@dataclass(frozen=True, slots=True)
class Acquiring:
    """Acquisition has begun or ended."""

    on: bool


@dataclass(frozen=True, slots=True)
class StreamChanged:
    """A stream runs, or has stopped.

    Attributes:
        kind: the stream's type, as topics name it: ``can``, ``uart``.
        run_id: of this start of the stream.
        by_itself: no call ended it, the driver did.
    """

    kind: str
    run_id: str
    running: bool
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class AcquisitionFailed:
    """The acquisition loop has died."""

    reason: str


@dataclass(frozen=True, slots=True)
class InputFailed:
    """`n` items of client data were lost; the latest reason stands for all."""

    code: Code
    reason: str
    n: int


@dataclass(frozen=True, slots=True)
class DriverReported:
    """An event of the driver's own."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventsDropped:
    """The driver has reported more events than its ration: `n` were dropped."""

    n: int


Event = (
    HardwareChanged
    | Acquiring
    | StreamChanged
    | AcquisitionFailed
    | InputFailed
    | DriverReported
    | EventsDropped
)


# Tuples, which take a third of the time to make: there is one for each batch.
class BatchHeader(NamedTuple):
    """What stands before the frames of a batch.

    Attributes:
        kind: the stream's type.
        form: ``json`` or ``bin``.
        run_id: of this start of the stream.
        n: how many frames there are.
        dropped: frames that driver and worker have lost so far, by cause.
        text: the header as it goes out on the bus, JSON without its closing brace: all of it but
            ``dropped`` and ``boot``, which the host adds.
    """

    kind: str
    form: str
    run_id: str
    n: int
    dropped: dict[str, int]
    text: bytes


class StreamBatch(NamedTuple):
    """Frames of one stream: a JSON array, or records one after the other."""

    header: BatchHeader
    frames: bytes


Up = Answer | Refusal | Pong | Event | StreamBatch

# -- what calls are answered with ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command as its driver declares it; `parameters` is a JSON Schema."""

    description: str
    parameters: dict[str, Any]
    timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a driver declares: its commands by name, its stream types, and how often to scan, in
    seconds."""

    commands: dict[str, CommandSpec]
    streams: list[str]
    scan_period: float


# What the answer to a call holds, where it is not anything a driver may say.
RESULTS: dict[type[Call], Any] = {Describe: Description, Scan: list[dict[str, Any]]}
