"""A driver host on a memory bus, with its real worker processes, for tests."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sat_bus.contract import topics
from sat_bus.contract.boot import new_boot
from sat_bus.contract.messages import HostState
from sat_bus.service.loop import WorkLoop
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_bus.transport.bus import Inbound, Will
from sat_host.host import Host
from sat_host.pool.pool import Pool
from sat_host.settings import HostSettings

PLUGINS = Path(__file__).parent / "plugins"
SITE, HOST, DRIVER = "lab", "bench-lab", "drv_bench"
DEADLINE = 20.0


class Watcher:
    """A client that keeps all it receives, and can wait for what it wants to see."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.messages: list[Inbound] = []
        self.latest: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._ids = 0
        bus.start(5.0)
        bus.subscribe(f"sat/1/{SITE}/#", self._on_message)

    def _on_message(self, inbound: Inbound) -> None:
        with self._changed:
            self.messages.append(inbound)
            self.latest[inbound.topic] = inbound.payload
            self._changed.notify_all()

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
        """The truthy value of `condition`, checked at each message."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"in vain: {what}; {sorted(self.latest)}"
            )
            return condition()

    def topic(self, topic: topics.Topic, device: str = "", **levels: str) -> str:
        known = {"host": HOST, "driver": DRIVER, "device": device} | levels
        wanted = {
            name: value
            for name, value in known.items()
            if f"{{{name}}}" in topic.pattern or name == "client"
        }
        return topic.build(SITE, **{k: v for k, v in wanted.items() if v})

    def json(self, topic: str) -> dict[str, Any]:
        value = json.loads(self.latest.get(topic) or b"{}")
        assert isinstance(value, dict)
        return value

    def status(self, device: str) -> dict[str, Any]:
        return self.json(self.topic(topics.DEVICE_STATUS, device))

    def wait_state(self, device: str, state: str, timeout: float = DEADLINE) -> dict[str, Any]:
        self.wait(lambda: self.status(device).get("state") == state, f"{device} {state}", timeout)
        return self.status(device)

    def ask(self, topic: str, args: dict[str, Any], **envelope: Any) -> dict[str, Any]:
        """Send a request and wait for its reply."""
        self._ids += 1
        reply_to = f"sat/1/{SITE}/reply/tester/{self._ids}"
        payload = {"args": args, "request_id": f"r{self._ids}", "reply_to": reply_to, **envelope}
        self.bus.publish(topic, json.dumps(payload).encode())
        self.wait(lambda: reply_to in self.latest, f"a reply to {topic}")
        return self.json(reply_to)

    def request(self, op: str, device: str = "", **envelope: Any) -> dict[str, Any]:
        args = {"driver": DRIVER, "device": device} if device else {}
        return self.ask(self.topic(topics.HOST_REQUEST, op=op), args, **envelope)

    def command(
        self, device: str, command: str, args: dict[str, Any] | None = None, **envelope: Any
    ) -> dict[str, Any]:
        return self.ask(self.topic(topics.COMMAND, device, command=command), args or {}, **envelope)

    def batches(self, device: str) -> list[dict[str, Any]]:
        topic = self.topic(topics.STREAM_JSON, device, stream="custom")
        with self._changed:
            return [json.loads(m.payload) for m in self.messages if m.topic == topic]


class RunningHost:
    """A host on its own thread."""

    def __init__(
        self,
        broker: MemoryBroker,
        info: dict[str, Any] | None = None,
        *,
        plugins: Path = PLUGINS,
        **settings: Any,
    ) -> None:
        drivers = {DRIVER: info or {}}
        made = HostSettings(
            family="lab", host=HOST, site=SITE, plugins=str(plugins), drivers=drivers, **settings
        )
        self.boot = new_boot(int(time.time() * 1000), os.urandom(4))
        self.loop = WorkLoop(HOST)
        offline = HostState(state="offline", boot=self.boot).encode()
        self.bus = MemoryBus(
            broker, HOST, will=Will(topics.HOST_STATE.build(SITE, host=HOST), offline)
        )
        pool = Pool(made, self.loop, ends_orphans=False)
        self.host = Host(made, self.loop, self.bus, self.boot, pool)
        self.loop.on_finish(self.host.stop)
        self._thread = threading.Thread(target=self.loop.run, name="host-under-test")

    def __enter__(self) -> Self:
        self.host.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.finish(0)
        assert self.ended()

    def ended(self) -> bool:
        """Whether the host ends by itself in time."""
        self._thread.join(DEADLINE)
        return not self._thread.is_alive()


@contextmanager
def connected_device(plugins: Path) -> Iterator[tuple[MemoryBroker, Watcher]]:
    """A host with the plugins of a folder, whose device ``a`` is connected; what watches it, and
    the broker."""
    broker = MemoryBroker()
    client = MemoryBus(broker, "tester")
    watcher = Watcher(client)
    with RunningHost(broker, plugins=plugins):
        watcher.wait(lambda: watcher.status("a").get("state") == "discovered", "the device")
        assert watcher.request("connect", "a")["state"] == "connected"
        yield broker, watcher
    client.close()
