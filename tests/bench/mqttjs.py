"""CAN frames into MQTT.js, the client of Node-RED and of dashboards, an object made of each: from
JSON batches of 80 frames, as 8,000 frames a second give in the window of 10 ms; from packed ones,
through `shared/sat_js`; and from one JSON message for each frame. All at QoS 1; the reader is
stopped (SIGSTOP) while the broker takes the messages, and timed from its awakening."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sat_bus.contract import bin_batch
from sat_toolkit.core.frame_block import FrameBlock
from tests import npm
from tests.bench import harness
from tests.bench.flood import Sleep, patient_broker
from tests.bench.peers.wire import connected
from tests.bench.report import Row

TITLE = "Frames into MQTT.js"
HOME = harness.FOLDER / "mqttjs"
PEER = "one JSON message per frame"
BATCH = 80
DEADLINE_S = 60.0


def run(context: harness.Context) -> list[Row]:
    """Feed it in each form in turn."""
    folder = installed()
    rates: dict[str, list[float]] = {"frame": [], "json": [], "bin": []}
    for _ in range(context.repetitions):
        for form, values in rates.items():
            count = 20_000 if form == "frame" else 4_000 * BATCH
            values.append(measure(folder, form, count // 50 if context.quick else count))
    version = json.loads((folder / "node_modules" / "mqtt" / "package.json").read_text())["version"]
    node = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    note = f"MQTT.js {version}, Node.js {node}"
    return [
        Row(
            "JSON batches", "frames/s", rates["json"], rates["frame"], PEER, at_least=10, note=note
        ),
        Row("bin batches", "frames/s", rates["bin"], rates["frame"], PEER),
    ]


def installed() -> Path:
    """A folder in which `require` finds MQTT.js of the version that the lock file names."""
    folder = harness.CACHE / "mqttjs"
    npm.install(HOME, folder)
    return folder


def measure(folder: Path, form: str, count: int) -> float:
    """Frames per second of `count` frames."""
    topic = "sat/1/lab/dev/bench/drv_socketcan/can0/stream/can/" + form
    with patient_broker() as broker:
        command = [
            "node",
            str(HOME / "reader.js"),
            str(folder),
            str(broker.port),
            topic,
            form,
            str(count),
        ]
        with harness.Program("reader", command) as reader:
            reader.need("ready")
            client = connected(broker.port, "feeder")
            with Sleep(reader.pid) as sleep:
                for payload in payloads(form, count):
                    last = client.publish(topic, payload, 1)
                last.wait_for_publish(DEADLINE_S)
            said = reader.need("all", DEADLINE_S)
            seconds = time.monotonic() - sleep.woken
            client.disconnect()
            client.loop_stop()
    expected = sum(frame["id"] + int(frame["data"][:2], 16) for frame in frames(0, count))
    if said["sum"] != expected:
        raise RuntimeError(
            f"{form}: the reader has decoded something else: {said['sum']}, not {expected}"
        )
    return count / seconds


def frames(start: int, count: int) -> Iterator[dict[str, Any]]:
    """Frames of 8 bytes, of 64 ids."""
    for number in range(start, start + count):
        data = (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big").hex()
        yield {"t": 1_700_000_000 + number / 8_000, "id": 0x100 + number % 64, "data": data}


def payloads(form: str, count: int) -> Iterator[bytes]:
    """The messages of `count` frames, batches as a host publishes them."""
    if form == "frame":
        yield from (json.dumps(frame).encode() for frame in frames(0, count))
        return
    for seq in range(0, count, BATCH):
        block = FrameBlock.pack(frames(seq, BATCH))
        header = {
            "stream": "bench-1",
            "boot": "1700000000000-00000000",
            "seq": seq,
            "n": BATCH,
            "t0": block.t0,
        }
        header |= {"dropped": {}, "channel": "can0"}
        if form == "bin":
            yield bin_batch.encode(header, block)
        else:
            yield (
                json.dumps(header).encode()[:-1]
                + b', "frames": ['
                + b",".join(block.json_frames())
                + b"]}"
            )
