"""The bus contract, version 1: every topic with its payload, QoS, retain flag and writer, in one
table. PURE.

A topic is ``sat/1/<site>/`` and the pattern. ``{host}`` and ``{client}`` are plain names;
``{driver}``, ``{device}``, ``{stream}`` and ``{command}`` are any text of 1 to 128 bytes of UTF-8,
in which ``/ + # %`` and control characters stand as ``%XX``. ``[/{client}]`` is a last level that
may be left out: a broker's access list can vouch for it. `contract.md` and `asyncapi.json` in
docs/reference are generated from `TABLE`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from sat_bus.contract import messages as m
from sat_toolkit.errors import BadRequest

ROOT = "sat/1"
_NAME = re.compile(m.NAME_PATTERN)
_PLAIN = ("host", "client", "id", "op")
_ESCAPED = re.compile(r"[/+#%\x00-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(r"%([0-9A-F]{2})")
_OPTIONAL = "[/{client}]"


class Traffic(StrEnum):
    """How a message is queued on its way out: control is never dropped silently, state is conflated
    to the newest of its topic, frames drop the oldest of the topic with most bytes and count."""

    CONTROL = "control"
    STATE = "state"
    FRAMES = "frames"


@dataclass(frozen=True)
class Topic:
    """One row of the contract. `payload` is None where the payload is no JSON object; `about` says
    what it is."""

    name: str
    pattern: str
    payload: type[m.Message] | None
    about: str
    writer: str
    retain: bool = False
    qos: int = 1
    traffic: Traffic = Traffic.CONTROL

    def build(self, site: str, **levels: str) -> str:
        """The topic with its levels filled in; an optional ``client`` level may be left out.

        Raises:
            BadRequest: a level is empty, too long, or no plain name where one is needed.
        """
        pattern = self.pattern
        if pattern.endswith(_OPTIONAL):
            pattern = pattern.removesuffix(_OPTIONAL) + ("/{client}" if "client" in levels else "")
        filled = {level: encode_level(level, value) for level, value in levels.items()}
        return f"{ROOT}/{_plain('site', site)}/{pattern.format(**filled)}"

    def filters(self, site: str, **levels: str) -> tuple[str, ...]:
        """The subscriptions that catch this topic: levels not named are ``+``; two where one is
        optional."""
        base = self.pattern.removesuffix(_OPTIONAL)
        patterns = (base, base + "/{client}") if base != self.pattern else (base,)
        return tuple(
            f"{ROOT}/{_plain('site', site)}/"
            + re.sub(
                r"\{(\w+)\}",
                lambda hit: encode_level(hit[1], levels[hit[1]]) if hit[1] in levels else "+",
                pattern,
            )
            for pattern in patterns
        )


HOST_STATE = Topic(
    "host_state", "host/{host}/state", m.HostState, "whether the host is there",
    "host, its will; orchestrator for a lost host", retain=True, traffic=Traffic.STATE)  # fmt: skip
HOST_BIRTH = Topic(
    "host_birth", "host/{host}/birth", m.Birth, "who the host is, and its present boot",
    "host", retain=True, traffic=Traffic.STATE)  # fmt: skip
HOST_HEARTBEAT = Topic(
    "host_heartbeat", "host/{host}/heartbeat", m.Heartbeat, "once a second, by way of the work loop",
    "host", qos=0)  # fmt: skip
HOST_HEALTH = Topic(
    "host_health", "host/{host}/health", m.Health, "queues, drops by cause, workers, memory; once a second",
    "host", qos=0)  # fmt: skip
HOST_REQUEST = Topic(
    "host_request", "host/{host}/req/{op}", m.Request,
    "lifecycle requests: scan initialize connect start reset close release reload resync forget",
    "orchestrator")  # fmt: skip
HOST_REPLY = Topic(
    "host_reply", "host/{host}/res/{op}", m.Reply, "reply to a host request that names no reply topic",
    "host")  # fmt: skip
DEVICE_STATE = Topic(
    "device_state", "dev/{host}/{driver}/{device}/state", None, "a bare word: `connected`",
    "host; orchestrator for a lost host", retain=True, traffic=Traffic.STATE)  # fmt: skip
DEVICE_STATUS = Topic(
    "device_status", "dev/{host}/{driver}/{device}/status", m.Status, "the state with its reason, streams and quality",
    "host; orchestrator for a lost host", retain=True, traffic=Traffic.STATE)  # fmt: skip
DEVICE_META = Topic(
    "device_meta", "dev/{host}/{driver}/{device}/meta", m.Meta, "what the device is and which commands it takes",
    "host", retain=True, traffic=Traffic.STATE)  # fmt: skip
COMMAND = Topic(
    "command", "dev/{host}/{driver}/{device}/cmd/{command}[/{client}]", m.Request, "run a command of the driver",
    "client")  # fmt: skip
SET = Topic(
    "set", "dev/{host}/{driver}/{device}/set[/{client}]", m.Request,
    "desired state: `connected`, `initialized`, `disconnected`, `auto`, or an object", "client")  # fmt: skip
INPUT_JSON = Topic(
    "input_json", "dev/{host}/{driver}/{device}/in/{stream}/json[/{client}]", None,
    "data for the device: a StreamData or a batch of frames", "client")  # fmt: skip
INPUT_BIN = Topic(
    "input_bin", "dev/{host}/{driver}/{device}/in/{stream}/bin[/{client}]", None,
    "CAN frames for the device, packed; the reply says what became of each", "client")  # fmt: skip
DEVICE_REPLY = Topic(
    "device_reply", "dev/{host}/{driver}/{device}/res/{command}", m.Reply,
    "reply to a command, `in` or `set` that names no reply topic", "host; orchestrator for `set`")  # fmt: skip
STREAM_JSON = Topic(
    "stream_json", "dev/{host}/{driver}/{device}/stream/{stream}/json", m.JsonBatch, "batches of frames",
    "host", traffic=Traffic.FRAMES)  # fmt: skip
STREAM_BIN = Topic(
    "stream_bin", "dev/{host}/{driver}/{device}/stream/{stream}/bin", None, "batches of CAN frames, packed",
    "host", traffic=Traffic.FRAMES)  # fmt: skip
DEVICE_EVENT = Topic(
    "device_event", "dev/{host}/{driver}/{device}/event", m.Event, "something that happened",
    "host, orchestrator")  # fmt: skip
ORCHESTRATOR_STATE = Topic(
    "orchestrator_state", "orch/state", m.OrchestratorState, "whether the orchestrator is there, and its epoch",
    "orchestrator, its will", retain=True, traffic=Traffic.STATE)  # fmt: skip
ORCHESTRATOR_HEALTH = Topic(
    "orchestrator_health", "orch/health", m.Health, "queues, drops by cause, memory; once a second",
    "orchestrator", qos=0)  # fmt: skip
ORCHESTRATOR_REQUEST = Topic(
    "orchestrator_request", "orch/req/{op}[/{client}]", m.Request,
    "lifecycle requests: scan initialize connect reset close release list forget cleanup", "client")  # fmt: skip
ORCHESTRATOR_REPLY = Topic(
    "orchestrator_reply", "orch/res/{op}", m.Reply, "reply to an orchestrator request that names no reply topic",
    "orchestrator")  # fmt: skip
TABLE_ROW = Topic(
    "table_row", "orch/table/{host}/{driver}/{device}", m.TableRow, "the device's row in the lifecycle table",
    "orchestrator", retain=True, traffic=Traffic.STATE)  # fmt: skip
REPLY = Topic(
    "reply", "reply/{client}/{id}", m.Reply, "replies, where the request asked for them here",
    "host, orchestrator")  # fmt: skip

TABLE: tuple[Topic, ...] = (
    HOST_STATE, HOST_BIRTH, HOST_HEARTBEAT, HOST_HEALTH, HOST_REQUEST, HOST_REPLY,
    DEVICE_STATE, DEVICE_STATUS, DEVICE_META, COMMAND, SET, INPUT_JSON, INPUT_BIN, DEVICE_REPLY,
    STREAM_JSON, STREAM_BIN, DEVICE_EVENT,
    ORCHESTRATOR_STATE, ORCHESTRATOR_HEALTH, ORCHESTRATOR_REQUEST, ORCHESTRATOR_REPLY, TABLE_ROW, REPLY,
)  # fmt: skip

# What the levels of a topic are, and what the table cannot say of its streams; for `contract.md`.
LEVELS = {
    "site": "The installation; all its services share the broker. 1 to 64 of A-Z a-z 0-9 _ . : -",
    "host": "A driver host: one program for one hardware family on one machine, `bench1-can`.",
    "driver": "A driver plugin, `drv_socketcan`.",
    "device": "The plugin's id of a device; `/ + # %` and control characters stand as `%XX`.",
    "stream": "A kind of data, `can`.",
    "command": "A command that the device's `meta` lists.",
    "client": "Who asks: a name of the client's own choice, or the account that a broker's access list vouches for.",
    "op": "An operation.",
    "id": "The request's id.",
}
STREAMS = """\
Frames travel in batches, as `json` ([JsonBatch](#jsonbatch)) and, of CAN streams, as `bin`
([byte by byte](bin-batches.md)).
A start of a stream has an id, `stream`, and its frames have numbers from 0: `seq` is that of a batch's first frame, `n`
how many it has. Both forms share the numbers. What was lost keeps its numbers, whether it was lost before the host, in
it or after it, so a reader misses exactly the frames from the last `seq` + `n` up to the next `seq`. `dropped` says by
cause what the host knows to be lost of this form so far; it may tell a batch or two before or after the place where the
numbers show it. `thinned` counts what `max_hz` left out, which has no numbers. A batch without frames is sent each
second of silence and at the end of a stream.

The args of any driver's `start` may hold a `stream`, which the host takes out: a [DeliveryArgs](#deliveryargs). While a
stream runs, another start adds forms to it and changes what else it names. Where it says nothing, the settings of the
host hold.
"""


@dataclass(frozen=True)
class Match:
    """A topic that was recognised, with its levels decoded."""

    topic: Topic
    levels: dict[str, str]

    @property
    def client(self) -> str | None:
        return self.levels.get("client")


def encode_level(level: str, value: str) -> str:
    """`value` as it stands in a topic at the place of `level`.

    Raises:
        BadRequest: it is empty, longer than 128 bytes, or no plain name where one is needed.
    """
    if level in _PLAIN:
        return _plain(level, value)
    size = len(value.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= 128:
        raise BadRequest(f"{level} of {size} bytes; 1 to 128 bytes of UTF-8 are accepted")
    return _ESCAPED.sub(lambda hit: "".join(f"%{byte:02X}" for byte in hit[0].encode()), value)


def decode_level(text: str) -> str:
    """The value that stands as `text` in a topic.

    Raises:
        BadRequest: a ``%`` that begins no ``%XX`` in upper case, bytes that are not UTF-8, or more
            than 128 of them.
    """
    if "%" in _ESCAPE.sub("", text):
        raise BadRequest(f"{text!r}: a % is followed by two upper-case hex digits")
    raw = re.sub(
        rb"%([0-9A-F]{2})",
        lambda hit: bytes.fromhex(hit[1].decode()),
        text.encode("utf-8", "replace"),
    )
    if len(raw) > 128:
        raise BadRequest(f"a level of {len(raw)} bytes; 1 to 128 bytes of UTF-8 are accepted")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{text!r} does not decode to UTF-8") from None


@lru_cache(maxsize=4096)
def parse(site: str, topic: str) -> Match | None:
    """The row of `TABLE` that `topic` belongs to, with its levels; None when it is not a topic of
    the contract. What it returns is shared by all who ask."""
    prefix = f"{ROOT}/{site}/"
    if not topic.startswith(prefix):
        return None
    rest = topic[len(prefix) :]
    for row, pattern in _COMPILED.get(rest.partition("/")[0], ()):
        hit = pattern.fullmatch(rest)
        if hit is None:
            continue
        try:
            levels = {
                level: decode_level(text)
                for level, text in hit.groupdict().items()
                if text is not None
            }
        except BadRequest:
            return None
        return Match(row, levels)
    return None


def may_reply_to(site: str, reply_to: str, client: str | None) -> bool:
    """Whether a request may name `reply_to`: below ``reply/<client>/`` only, and below its own when
    the request's topic has a client level."""
    hit = parse(site, reply_to)
    return hit is not None and hit.topic is REPLY and client in (None, hit.client)


def matches(subscription: str, topic: str) -> bool:
    """Whether `topic` is caught by the filter `subscription` (MQTT 3.1.1, section 4.7)."""
    wanted, given = subscription.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return not (index == 0 and topic.startswith("$"))
        if index >= len(given) or (level != "+" and level != given[index]):
            return False
        if index == 0 and level == "+" and topic.startswith("$"):
            return False
    return len(wanted) == len(given)


def _plain(level: str, value: str) -> str:
    if not _NAME.match(value) or value.endswith("\n"):
        raise BadRequest(f"{level} {value[:80]!r}: 1 to 64 of A-Z a-z 0-9 _ . : - are accepted")
    return value


def _compile(pattern: str) -> re.Pattern[str]:
    def level(name: str) -> str:
        accepted = m.NAME_PATTERN.strip("^$") if name in _PLAIN else "[^/+#]+"
        return f"(?P<{name}>{accepted})"

    base = pattern.removesuffix(_OPTIONAL)
    body = re.sub(r"\\\{(\w+)\\\}", lambda hit: level(hit[1]), re.escape(base))
    return re.compile(body + (f"(?:/{level('client')})?" if base != pattern else ""))


# By the first level, which no row leaves open.
_COMPILED: dict[str, list[tuple[Topic, re.Pattern[str]]]] = {}
for _row in TABLE:
    _COMPILED.setdefault(_row.pattern.partition("/")[0], []).append((_row, _compile(_row.pattern)))
