"""A whole rack for tests: broker, orchestrator, driver host and simulated ECU, each a process of
its own, watched and commanded by Mosquitto's own clients alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

DEADLINE = 20.0
HOST, DRIVER, DEVICE = "bench1-can", "drv_socketcan", "ecu"
DEV = f"sat/1/lab/dev/{HOST}/{DRIVER}/{DEVICE}"
POLICY = [{"match": "*", "level": "connected", "streams": {"can": {}}}]
_SEPARATOR = "\x1f"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A program of the rack, with its output in a file."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = argv
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._argv, env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(DEADLINE)

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            return process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)
            raise AssertionError(f"{self.name} did not end: {self.tail()}") from None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Observer:
    """``mosquitto_sub``, by MQTT 3.1.1 and by default on everything: what it printed last for each
    topic, and when."""

    def __init__(
        self, port: int, filters: Sequence[str] = ("sat/1/#",), address: str = "127.0.0.1"
    ) -> None:
        self.latest: dict[str, str] = {}
        self.history: list[tuple[float, str, str]] = []
        self._changed = threading.Condition()
        argv = [
            "mosquitto_sub",
            "-V",
            "mqttv311",
            "-h",
            address,
            "-p",
            str(port),
            "-F",
            f"%t{_SEPARATOR}%p",
        ]
        argv += [word for topic in filters for word in ("-t", topic)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._read, name="observer")
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, _, payload = line.decode(errors="replace").rstrip("\n").partition(_SEPARATOR)
            with self._changed:
                self.latest[topic] = payload
                self.history.append((time.monotonic(), topic, payload))
                self._changed.notify_all()

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
        """The truthy value of `condition`, checked at each message, within `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                shown = {
                    topic: text[:200]
                    for topic, text in self.latest.items()
                    if "/stream/" not in topic
                }
                raise AssertionError(
                    f"in vain for {timeout} s: {what}; {json.dumps(shown, indent=1)}"
                )
            return condition()

    def messages(self) -> list[tuple[float, str, str]]:
        """All that came so far: monotonic seconds, topic, payload."""
        with self._changed:
            return self.history.copy()

    def json(self, topic: str) -> dict[str, Any]:
        value = json.loads(self.latest.get(topic) or "{}")
        assert isinstance(value, dict)
        return value

    def wait_state(self, state: str, timeout: float = DEADLINE, dev: str = DEV) -> None:
        self.wait(lambda: self.latest.get(f"{dev}/state") == state, f"{dev} {state}", timeout)

    def count(self, topic: str) -> int:
        with self._changed:
            return sum(name == topic for _, name, _ in self.history)

    def frames(self, dev: str = DEV, stream: str = "can") -> list[dict[str, Any]]:
        """All frames seen, in order."""
        topic = f"{dev}/stream/{stream}/json"
        with self._changed:
            batches = [json.loads(text) for _, name, text in self.history if name == topic]
        return [frame for batch in batches for frame in batch["frames"]]

    def wait_streaming(
        self, timeout: float = DEADLINE, dev: str = DEV, stream: str = "can"
    ) -> None:
        """Wait for a batch with frames that arrives from now on."""
        topic = f"{dev}/stream/{stream}/json"
        with self._changed:
            seen = len(self.history)
        self.wait(
            lambda: any(
                name == topic and '"n":0,' not in text for _, name, text in self.history[seen:]
            ),
            "frames",
            timeout,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE)
        self._thread.join(DEADLINE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Rack:
    """Broker, orchestrator, driver host and ECU. `kind`: ``embedded`` or ``mosquitto``.

    `can` False leaves host and ECU out; `filters` are what its observer subscribes to; the broker
    listens on `address`; the host is started by way of the command `elsewhere`.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        policy: list[dict[str, Any]] | None = None,
        *,
        can: bool = True,
        filters: Sequence[str] = ("sat/1/#",),
        address: str = "127.0.0.1",
        elsewhere: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.address = address
        self.port = free_port()
        self.url = f"mqtt://{address}:{self.port}"
        ecu = folder / "ecu"
        buses = [{"name": DEVICE, "interface": "slcan", "channel": str(ecu)}]
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith("SAT_")
        } | {
            "SAT_BROKER_URL": self.url,
            "SAT_SITE": "lab",
            "SAT_DRIVERS": json.dumps({DRIVER: {"buses": buses}}),
            "SAT_POLICY": json.dumps(POLICY if policy is None else policy),
            "SAT_DATABASE_URL": f"sqlite:///{folder}/sat.db",
            "XDG_STATE_HOME": str(folder),
        }
        self.broker_data = folder / "broker"
        serve = [
            "broker",
            "--port",
            str(self.port),
            "--kind",
            kind,
            "--data-dir",
            str(self.broker_data),
        ]
        serve += ["--bind", address]
        self.broker = self._sat("broker", *serve)
        self.orchestrator = self._sat("orchestrator", "orchestrator")
        serve_can = [
            *elsewhere,
            sys.executable,
            "-m",
            "sat_cli",
            "host",
            "--family",
            "can",
            "--name",
            HOST,
        ]
        self.host = Program("host", serve_can, self.env, folder)
        simulator = [sys.executable, "-m", "plugins.devices.can.sim_ecu", "--pty", str(ecu)]
        self.ecu = Program("ecu", simulator, self.env, folder)
        self.extra: list[Program] = []
        self._first = (self.ecu, self.orchestrator, self.host) if can else (self.orchestrator,)
        self._filters = filters
        self._observer: Observer | None = None
        self._ids = 0

    def _sat(self, name: str, *args: str, env: dict[str, str] | None = None) -> Program:
        return Program(
            name, [sys.executable, "-m", "sat_cli", *args], self.env | (env or {}), self.folder
        )

    def add_host(self, family: str, plugins: Path, env: dict[str, str] | None = None) -> str:
        """Start one more driver host, with `env` beside the rack's own; its name."""
        name = f"bench1-{family}"
        program = self._sat(
            name, "host", "--family", family, "--name", name, "--plugins", str(plugins), env=env
        )
        program.start()
        self.extra.append(program)
        return name

    @property
    def observer(self) -> Observer:
        assert self._observer is not None
        return self._observer

    def start_broker(self) -> None:
        """Start it and wait until it takes connections."""
        self.broker.start()
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection((self.address, self.port), 1.0).close()
                return
            except OSError:
                assert self.broker.running, self.broker.tail()
                assert time.monotonic() < deadline, self.broker.tail()
                threading.Event().wait(0.05)

    def kill_broker(self, *, wipe: bool) -> None:
        """SIGKILL; with `wipe` its data is gone too. A Mosquitto below ``sat broker`` dies with
        it."""
        self.broker.kill()
        deadline = time.monotonic() + DEADLINE
        while _listening(self.address, self.port):
            assert time.monotonic() < deadline, "the broker's port is still served"
            threading.Event().wait(0.02)
        if wipe:
            shutil.rmtree(self.broker_data, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start_broker()
            self._observer = Observer(self.port, self._filters, self.address)
            for program in self._first:
                program.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in (*self.extra, self.host, self.orchestrator, self.ecu, self.broker):
            program.stop()
        if self._observer is not None:
            self._observer.close()

    def publish(self, topic: str, payload: str, *options: str) -> None:
        """``mosquitto_pub``, by MQTT 3.1.1 and QoS 1."""
        argv = [
            "mosquitto_pub",
            "-V",
            "mqttv311",
            "-q",
            "1",
            "-h",
            self.address,
            "-p",
            str(self.port),
            "-t",
            topic,
            "-m",
            payload,
            *options,
        ]
        subprocess.run(argv, check=True, timeout=DEADLINE)

    def ask(self, topic: str, payload: str, reply_topic: str) -> dict[str, Any]:
        """Publish a request and wait for the next message on `reply_topic`."""
        seen = self.observer.count(reply_topic)
        self.publish(topic, payload)
        self.observer.wait(
            lambda: self.observer.count(reply_topic) > seen, f"a reply on {reply_topic}"
        )
        return self.observer.json(reply_topic)

    def command(self, name: str, payload: str = "{}", dev: str = DEV) -> dict[str, Any]:
        return self.ask(f"{dev}/cmd/{name}", payload, f"{dev}/res/{name}")

    def logs(self) -> str:
        programs = (self.broker, self.orchestrator, self.host, self.ecu, *self.extra)
        return "\n".join(f"--- {program.name}\n{program.tail()}" for program in programs)


def _listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
