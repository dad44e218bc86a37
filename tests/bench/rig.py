"""A run of frames: the sender, ours or a peer, a broker of its own, and the subscriber."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Self

from sat_cli.brokers.mosquitto import MosquittoBroker
from tests.bench.asking import Asker
from tests.bench.harness import CACHE, FOLDER, Context, Program, broker_pid, cpu_seconds

SITE, HOST, DEVICE = "lab", "bench", "bus0"
# A rate is carried when the sentinel, sent this long after the last frame, arrives and no later
# than LATE_S after it.
PAUSE_MS = 300
LATE_S = 1.0
WARM_UP = (200.0, 0.3)  # the first frames find caches cold and code not yet loaded
_runs = count(1)
Sender = Callable[[float, float, int], dict[str, float]]


@dataclass(frozen=True)
class Trial:
    """What became of the frames of one run.

    `span` is when they were sent, by `time.perf_counter`; `cpu` the seconds of ``subject``,
    ``broker``, ``subscriber``.
    """

    rate: float
    span: tuple[float, float]
    sent: int
    received: int
    in_time: bool
    duplicates: int
    gaps: int
    missing: int
    dropped: Mapping[str, int]
    p50: float
    p99: float
    worst: float
    cpu: Mapping[str, float]

    @property
    def carried(self) -> bool:
        """Whether nothing was lost, and it kept up."""
        return self.in_time and self.received == self.sent

    def cpu_us(self, *roles: str) -> float:
        """Microseconds of CPU for each frame that arrived, of `roles` or of all."""
        spent = sum(seconds for role, seconds in self.cpu.items() if not roles or role in roles)
        return spent / max(self.received, 1) * 1e6


@dataclass(frozen=True)
class Subject:
    """What is measured: ours or a peer.

    `start` starts it on a source (``udp:0`` or ``can:LINK``) and a broker's port, and says where
    frames are to be sent to; `topic` and `form` are for the subscriber.
    """

    name: str
    topic: str
    form: str
    start: Callable[[ExitStack, str, int], tuple[Program, str]]


def ours(form: str = "bin", *, can: str | None = None) -> Subject:
    """The driver host as shipped, told to stream `form`."""
    driver, device = ("drv_socketcan", can) if can else ("drv_standin", DEVICE)
    dev = f"sat/1/{SITE}/dev/{HOST}/{driver}/{device}"

    def start(stack: ExitStack, source: str, broker: int) -> tuple[Program, str]:
        argv = [
            sys.executable,
            "-m",
            "sat_cli",
            "host",
            "--family",
            "can" if can else "standin",
            "--name",
            HOST,
        ]
        env = {
            "SAT_BROKER_URL": f"mqtt://127.0.0.1:{broker}",
            "SAT_SITE": SITE,
            "SAT_LOG_LEVEL": "info",
        }
        port = 0
        if not can:
            port = free_udp_port()
            env |= {
                "SAT_PLUGINS": str(FOLDER / "plugins"),
                "SAT_DRIVERS": json.dumps({driver: {"port": port}}),
            }
        asker = stack.enter_context(Asker(broker, "bench-asker"))
        program = stack.enter_context(Program("ours", argv, env, CACHE))
        try:
            asker.wait(f"{dev}/state", b"discovered")
            for op in ("initialize", "connect"):
                asker.ask(
                    f"sat/1/{SITE}/host/{HOST}/req/{op}", {"driver": driver, "device": device}
                )
            asker.ask(f"{dev}/cmd/start", {"stream": {"formats": [form]}})
        except RuntimeError as error:
            raise RuntimeError(f"ours does not come up: {error}\n{program.last_words()}") from None
        return program, source if can else f"udp:{port}"

    return Subject("ours", f"{dev}/stream/can/{form}", form, start)


def peer(name: str, qos: int = 1) -> Subject:
    """``usual_way``, ``bare_batcher`` or ``batcher`` (the one in C)."""
    topic = f"bench/{name}"

    def start(stack: ExitStack, source: str, broker: int) -> tuple[Program, str]:
        command = (
            [str(compiled("batcher"))]
            if name == "batcher"
            else [sys.executable, "-m", f"tests.bench.peers.{name}"]
        )
        program = stack.enter_context(
            Program(name, [*command, source, str(broker), topic, str(qos)])
        )
        port = program.need("ready")["port"]
        return program, f"udp:{port}" if port else source

    words = {
        "usual_way": f"the usual way, QoS {qos}",
        "bare_batcher": "bare batcher",
        "batcher": "batcher in C",
    }
    return Subject(words[name], topic, "frame" if name == "usual_way" else "records", start)


class Rig:
    """A subject at work. Runs follow one another on it."""

    def __init__(
        self,
        broker: MosquittoBroker,
        subject: Subject,
        program: Program,
        subscriber: Program,
        sender: Sender,
    ) -> None:
        self.port = broker.port
        self._broker_pid = broker_pid(broker)
        self.subject = subject
        self.program = program
        self.subscriber = subscriber
        self._sender = sender

    def trial(self, rate: float, seconds: float, *, settle: bool = False) -> Trial:
        """Send frames at `rate`; with `settle` the last drops are waited for, which take a second
        to be told."""
        run = next(_runs)
        self.subscriber.tell(f"begin {run}")
        self.subscriber.need("begun", 60.0)
        before = self._cpu()
        begun = time.perf_counter()
        sent = self._sender(rate, seconds, run)
        span = begun, begun + sent["seconds"]
        in_time = self.subscriber.wait("sentinel", 20.0 if settle else LATE_S) is not None
        after = self._cpu()
        if settle and in_time:
            self.subscriber.need("idle", 10.0)
        self.subscriber.tell("end")
        result = self.subscriber.need("result", 60.0)
        del result["event"], result["messages"]
        cpu = {role: after[role] - before[role] for role in after}
        return Trial(
            rate=sent["sent"] / sent["seconds"],
            span=span,
            sent=int(sent["sent"]),
            in_time=in_time,
            cpu=cpu,
            **result,
        )

    def _cpu(self) -> dict[str, float]:
        pids = {
            "subject": self.program.pid,
            "broker": self._broker_pid,
            "subscriber": self.subscriber.pid,
        }
        return {role: cpu_seconds(pid) for role, pid in pids.items()}


@contextmanager
def running(context: Context, subject: Subject) -> Iterator[Rig]:
    """`subject` with a broker and a subscriber, up and ready."""
    with ExitStack() as stack:
        broker = stack.enter_context(context.broker())
        argv = [
            sys.executable,
            "-m",
            "tests.bench.subscriber",
            str(broker.port),
            subject.topic,
            subject.form,
        ]
        subscriber = stack.enter_context(Program("subscriber", argv))
        subscriber.need("ready")
        source = f"can:{context.can}" if context.can else "udp:0"
        program, to = subject.start(stack, source, broker.port)
        rig = Rig(broker, subject, program, subscriber, partial(send, to, context.sender_cpu))
        rig.trial(*WARM_UP)
        yield rig


class Pool:
    """Rigs by subject, started when first asked for, ended together; one that choked is replaced by
    a fresh one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stacks: dict[str, ExitStack] = {}
        self._rigs: dict[str, Rig] = {}

    def rig(self, subject: Subject) -> Rig:
        if subject.name not in self._rigs:
            stack = self._stacks[subject.name] = ExitStack()
            self._rigs[subject.name] = stack.enter_context(running(self._context, subject))
        return self._rigs[subject.name]

    def renew(self, subject: Subject) -> None:
        """End the rig of `subject`; the next run has a fresh one."""
        if self._rigs.pop(subject.name, None):
            self._stacks.pop(subject.name).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stack in self._stacks.values():
            stack.close()


def send(to: str, cpu: int | None, rate: float, seconds: float, run: int) -> dict[str, float]:
    """Run the sender, on the processor `cpu` if one is named; what it says it sent."""
    pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
    argv = [*pin, str(compiled("sender")), to, str(rate), str(seconds), str(run), str(PAUSE_MS)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60.0, check=False)
    if done.returncode:
        raise RuntimeError(f"the sender failed: {done.stderr}")
    said: dict[str, float] = json.loads(done.stdout)
    return said


def free_udp_port() -> int:
    """A port that nobody reads from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compiled(name: str) -> Path:
    """The program of ``<name>.c``, compiled anew when its source is newer; static, so that it runs
    anywhere."""
    source = next(
        path for path in (FOLDER / f"{name}.c", FOLDER / "peers" / f"{name}.c") if path.exists()
    )
    program = CACHE / "bin" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(source)], check=True)
    return program
