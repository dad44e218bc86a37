"""A site made by hand on a memory broker: one host with its devices and an orchestrator, as a
client sees them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sat_bus.contract import bin_batch, topics
from sat_bus.contract import messages as m
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Bus, Inbound
from sat_host.bus.inputs import parse_bin_input
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import SatError

SITE = "lab"
DRIVER = "drv_socketcan"
BOOT = "1700000000000-aa"
Answer = Callable[[topics.Match, m.Request], Any]


class FakeSite:
    """Answers each request with what `answer` returns (the result) or raises; `Silence` answers
    nothing."""

    class Silence(Exception):
        pass

    def __init__(
        self,
        broker: MemoryBroker,
        host: str = "bench-can",
        boot: str = BOOT,
        *,
        bus: Bus | None = None,
    ) -> None:
        self.broker, self.host, self.boot = broker, host, boot
        self.answer: Answer = lambda match, request: {"args": request.args}
        self.asked: list[tuple[str, m.Request]] = []
        self.inputs: list[bytes] = []
        self.rev = 0
        self.bus = bus or MemoryBus(broker, f"fake-{host}")
        self.packed: list[tuple[dict[str, Any], FrameBlock]] = []
        for topic in (
            topics.COMMAND, topics.SET, topics.INPUT_JSON, topics.INPUT_BIN, topics.ORCHESTRATOR_REQUEST,
        ):  # fmt: skip
            for subscription in topic.filters(SITE):
                self.bus.subscribe(subscription, self._on_request)
        self.bus.start()

    def close(self) -> None:
        self.bus.close()

    def publish(self, topic: topics.Topic, message: m.Message | None, **levels: str) -> None:
        payload = b"" if message is None else message.encode()
        self.bus.publish(
            topic.build(SITE, **levels), payload, retain=topic.retain, traffic=topic.traffic
        )

    def born(self, *, drivers: tuple[str, ...] = (DRIVER,), devices: int = 0) -> None:
        infos = [m.DriverInfo(name=name) for name in drivers]
        birth = m.Birth(
            boot=self.boot, family="can", drivers=infos, manifest=m.Manifest(count=devices, rev=self.rev),
            epoch_seen=0, version="0.1.0", clock=1.0,
        )  # fmt: skip
        self.publish(topics.HOST_BIRTH, birth, host=self.host)
        self.host_state("ready")

    def host_state(self, state: Any, boot: str | None = None) -> None:
        self.publish(
            topics.HOST_STATE, m.HostState(state=state, boot=boot or self.boot), host=self.host
        )

    def orchestrator(self, state: Any = "ready") -> None:
        self.publish(
            topics.ORCHESTRATOR_STATE, m.OrchestratorState(state=state, id="orch", epoch=1)
        )

    def device(self, name: str = "ecu", state: str = "connected", **status: Any) -> None:
        levels = {"host": self.host, "driver": DRIVER, "device": name}
        commands = {
            "send": m.CommandInfo(
                description="put a frame on the bus", parameters={"type": "object"}
            )
        }
        meta = m.Meta(
            name=f"the {name}",
            device_type="CAN",
            attributes={"interface": name},
            commands=commands,
            streams=["can"],
        )
        self.publish(topics.DEVICE_META, meta, **levels)
        self.status(name, state, **status)

    def status(self, name: str = "ecu", state: str = "connected", **more: Any) -> None:
        self.rev += 1
        fields = {
            "previous": DeviceState.UNKNOWN,
            "since": 1.0,
            "rev": self.rev,
            "boot": self.boot,
            "by": "host",
        } | more
        status = m.Status(state=DeviceState(state), **fields)
        self.publish(topics.DEVICE_STATUS, status, host=self.host, driver=DRIVER, device=name)

    def row(self, name: str = "ecu", **fields: Any) -> None:
        row = m.TableRow(**fields, quality="good", rev=1)
        self.publish(topics.TABLE_ROW, row, host=self.host, driver=DRIVER, device=name)

    def batch(
        self, seq: int, n: int, *, stream: str = "s1", device: str = "ecu", **dropped: int
    ) -> None:
        frames = [{"t": 1.0 + i, "id": seq + i, "data": "00"} for i in range(n)]
        batch = m.JsonBatch(
            stream=stream,
            boot=self.boot,
            seq=seq,
            n=n,
            t0=1.0,
            dropped=dropped,
            channel=device,
            frames=frames,
        )
        self.publish(
            topics.STREAM_JSON, batch, host=self.host, driver=DRIVER, device=device, stream="can"
        )

    def packed_batch(
        self, seq: int, n: int, *, stream: str = "s1", device: str = "ecu", **dropped: int
    ) -> None:
        header = {
            "stream": stream,
            "boot": self.boot,
            "seq": seq,
            "t0": 1.0,
            "dropped": dropped,
            "channel": device,
        }
        block = FrameBlock.pack({"t": 1.0 + i, "id": seq + i, "data": "00"} for i in range(n))
        levels = {"host": self.host, "driver": DRIVER, "device": device, "stream": "can"}
        self.bus.publish(topics.STREAM_BIN.build(SITE, **levels), bin_batch.encode(header, block))

    def _on_request(self, message: Inbound) -> None:
        match = topics.parse(SITE, message.topic)
        if match is None or ("host" in match.levels and match.levels["host"] != self.host):
            return
        if match.topic is topics.INPUT_JSON:
            self.inputs.append(message.payload)
            return
        if match.topic is topics.INPUT_BIN:
            self.packed.append(bin_batch.decode(message.payload))
            request = parse_bin_input(message.payload)
            if request.reply_to is None:
                return
        else:
            request = self._read(match, message.payload)
            self.asked.append((message.topic, request))
        assert request.reply_to is not None
        self._reply(match, request, request.reply_to)

    @staticmethod
    def _read(match: topics.Match, payload: bytes) -> m.Request:
        return (
            m.parse_set_request(payload) if match.topic is topics.SET else m.parse_request(payload)
        )

    def _reply(self, match: topics.Match, request: m.Request, reply_to: str) -> None:
        try:
            result = self.answer(match, request)
        except FakeSite.Silence:
            return
        except SatError as error:
            reply = m.failed(request.request_id, error, host=self.host, boot=self.boot)
        else:
            reply = (
                result
                if isinstance(result, m.Reply)
                else m.ok(request, host=self.host, boot=self.boot, result=result)
            )
        self.bus.publish(reply_to, reply.encode())


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except SatError as error:
            caught.append(error)

    thread = threading.Thread(target=run, name="test/caller")
    thread.start()
    return thread, caught


def until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        threading.Event().wait(0.005)
