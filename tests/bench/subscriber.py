"""Receives what ours or a peer publishes: ``python -m tests.bench.subscriber BROKER_PORT TOPIC
FORMAT``.

While a run lasts it only keeps what comes with its time of arrival, so that it costs each format
the least; what was in it is looked at when the run is over. Told ``begin RUN`` it waits until
nothing comes any more and says ``begun``; it says ``sentinel`` when that arrives, ``idle`` for each
batch without frames after it; told ``end`` it says ``result``.

FORMAT is ``bin`` (ours), ``records`` (the batchers': ours without a header), ``json`` (ours),
``frame`` (one JSON object for each frame) or ``thingsboard`` (its gateway's telemetry).
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from array import array
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt

from tests.bench.harness import percentile, say
from tests.bench.peers.wire import connected

RECORD_WORDS = 6
QUIET = 0.25
MAX_LATENCIES = 200_000


@dataclass
class Seen:
    """What the payloads of one run hold."""

    run: int
    total: int = 0
    messages: int = 0
    counters: set[int] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    gaps: int = 0
    missing: int = 0  # frames that the sequence numbers say are missing

    def frame(self, counter: int, run: int) -> bool:
        """Count a frame; whether it belongs to this run."""
        if run == self.run:
            self.total += 1
            self.counters.add(counter)
        return run == self.run


class Subscriber:
    """Keeps the messages of a run. `_on_message` is called on paho's thread, the rest on the main
    one."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._kept: list[tuple[float, bytes]] = []
        self._mark = b"?"
        self._last = 0.0
        self._ended = False
        self._dropped: dict[str, int] = {}
        self._stream = ""
        self._next_seq: int | None = None
        self._run = 0

    def on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        self._kept.append((time.time(), payload))
        if payload.find(self._mark, -1000) >= 0:
            self._ended = True
            say("sentinel")
        if self._form in ("frame", "records", "thingsboard") or b'"n":0,' not in payload[:400]:
            self._last = time.monotonic()
        elif self._ended:
            say("idle")

    def begin(self, run: int) -> None:
        """Forget what came once it is quiet; a run begins."""
        pause = threading.Event()
        while time.monotonic() - self._last < QUIET:
            pause.wait(0.02)
        self._look(Seen(self._run))  # what the streams had dropped before
        mark = b"STOP" + run.to_bytes(4, "little")
        self._mark = mark if self._form in ("bin", "records") else mark.hex().encode()
        self._run, self._ended = run, False
        say("begun")

    def end(self) -> None:
        """Tell what came in the run."""
        before = dict(self._dropped)
        seen = Seen(self._run)
        self._look(seen)
        dropped = {cause: count - before.get(cause, 0) for cause, count in self._dropped.items()}
        ordered = sorted(seen.latencies)
        say(
            "result",
            received=len(seen.counters),
            duplicates=seen.total - len(seen.counters),
            messages=seen.messages,
            gaps=seen.gaps,
            missing=seen.missing,
            dropped={cause: count for cause, count in dropped.items() if count},
            p50=percentile(ordered, 0.50) * 1e3,
            p99=percentile(ordered, 0.99) * 1e3,
            worst=percentile(ordered, 1.0) * 1e3,
        )

    def _look(self, seen: Seen) -> None:
        kept, self._kept = self._kept, []
        step = 1 + sum(len(payload) for _, payload in kept) // 24 // MAX_LATENCIES
        for index, (arrived, payload) in enumerate(kept):
            getattr(self, f"_look_{self._form}")(seen, arrived, payload, index % step == 0)
            seen.messages += 1

    def _look_frame(self, seen: Seen, arrived: float, payload: bytes, sampled: bool) -> None:
        frame = json.loads(payload)
        self._json_frame(seen, arrived, frame)

    def _look_json(self, seen: Seen, arrived: float, payload: bytes, sampled: bool) -> None:
        batch = json.loads(payload)
        self._header(seen, batch)
        for frame in batch["frames"]:
            self._json_frame(seen, arrived, frame)

    def _look_thingsboard(self, seen: Seen, arrived: float, payload: bytes, sampled: bool) -> None:
        for entries in json.loads(payload).values():
            for entry in entries:
                for data in entry["values"].values():
                    self._json_frame(seen, arrived, {"t": entry["ts"] / 1e3, "data": data})

    def _look_bin(self, seen: Seen, arrived: float, payload: bytes, sampled: bool) -> None:
        start = 8 + int.from_bytes(payload[6:8], "little")
        header = json.loads(payload[8:start])
        self._header(seen, header)
        if header["n"]:
            assert header["size"] == 4 * RECORD_WORDS
            self._look_records(seen, arrived, payload[start:], sampled)

    def _look_records(self, seen: Seen, arrived: float, payload: bytes, sampled: bool) -> None:
        words = array("I", payload)
        counters, runs = words[4::RECORD_WORDS], words[5::RECORD_WORDS]
        mine = runs.count(seen.run)
        if not mine:
            return
        seen.total += mine
        seen.counters.update(counters if mine == len(runs) else _of_run(counters, runs, seen.run))
        if sampled and mine == len(runs):
            stamps = zip(words[0::RECORD_WORDS], words[1::RECORD_WORDS], strict=True)
            seen.latencies.extend(arrived - sec - nsec * 1e-9 for sec, nsec in stamps)

    @staticmethod
    def _json_frame(seen: Seen, arrived: float, frame: dict[str, Any]) -> None:
        data = bytes.fromhex(frame["data"])
        if seen.frame(int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")):
            seen.latencies.append(arrived - frame["t"])

    def _header(self, seen: Seen, header: dict[str, Any]) -> None:
        """The numbers of a batch: what is missing, and what the host says it dropped."""
        if header["stream"] != self._stream:
            self._stream, self._next_seq, self._dropped = header["stream"], header["seq"], {}
        assert self._next_seq is not None
        if header["seq"] != self._next_seq:
            seen.gaps += 1
            seen.missing += header["seq"] - self._next_seq
        self._next_seq = header["seq"] + header["n"]
        self._dropped = dict(header["dropped"])


def _of_run(counters: array[int], runs: array[int], run: int) -> list[int]:
    return [counter for counter, of in zip(counters, runs, strict=True) if of == run]


def main() -> None:
    """Serve until stdin ends."""
    port, topic, form = sys.argv[1:]
    subscriber = Subscriber(form)
    client = connected(int(port), "subscriber")
    client.on_message = subscriber.on_message
    granted: queue.Queue[bool] = queue.Queue()
    client.on_subscribe = lambda *_: granted.put(True)
    client.subscribe(topic, qos=1)
    granted.get(timeout=10.0)
    say("ready")
    for line in sys.stdin:
        match line.split():
            case ["begin", run]:
                subscriber.begin(int(run))
            case ["end"]:
                subscriber.end()
            case other:
                raise SystemExit(f"{other}: begin RUN or end is accepted")


if __name__ == "__main__":
    main()
