"""CAN links of the guest from both sides: the project's device, and can-utils in the guest."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from sat_client import Rack
from sat_client.device import Device
from tests.vm.machine import Machine, Process
from tests.waiting import eventually

HOST = "guest-can"
# An emulated machine takes seconds to start a program, and more when its own machine is busy.
DEADLINE = 60.0
MARK = 0x1FFFFFFE
BUFFER = "8388608"
_LINE = re.compile(r"^\((\d+\.\d+)\) \S+ ([0-9A-F]{3,8})#(\S*)$")


def eventually_true(condition: Callable[[], bool], what: str) -> None:
    assert eventually(condition, DEADLINE), f"in vain for {DEADLINE:g} s: {what}"


class Link:
    """One CAN link of the guest, the device that it is for the system, and what its stream
    brought."""

    def __init__(self, machine: Machine, rack: Rack, name: str) -> None:
        self.machine = machine
        self.rack = rack
        self.name = name

    @property
    def device(self) -> Device:
        return self.rack.device(self.name)

    @property
    def known(self) -> bool:
        return any(device.id == self.name for device in self.rack.devices())

    def attribute(self, name: str) -> Any:
        meta = self.device.meta
        return meta.attributes.get(name) if meta is not None else None

    def await_attribute(self, name: str, value: object) -> None:
        eventually_true(lambda: self.attribute(name) == value, f"{self.name} has {name} {value}")

    @property
    def stream(self) -> str | None:
        """The id of its running stream."""
        status = self.device.status if self.known else None
        stream = status.streams.get("can") if status is not None else None
        return stream.stream if stream is not None and stream.state == "running" else None

    def await_stream(self) -> Self:
        eventually_true(lambda: self.stream is not None, f"{self.name} streams")
        return self

    def do(self, command: str, **args: Any) -> Any:
        return self.device.do(command, timeout=DEADLINE, **args)

    def cansend(self, *frames: str) -> None:
        self.machine.shell("; ".join(f"cansend {self.name} '{frame}'" for frame in frames))

    def mark(self, number: int) -> None:
        """Put a frame on the bus by which `frames_of` knows where it is."""
        self.cansend(f"{MARK:08X}#{number:02X}")

    def frames_of(
        self, send: Callable[[], object], mark: Callable[[int], object] | None = None
    ) -> list[dict[str, Any]]:
        """What the stream brings of what `send` puts on the bus, without gaps.

        `mark` puts a frame with the id MARK and its number as data on the bus; default `cansend` on
        this link. `tx` is left out: it says on a virtual link only that the frame came from this
            machine.
        """
        mark = mark or self.mark
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + DEADLINE
        with self.device.watch("can") as watch:

            def marked(number: int, timeout: float) -> bool:
                until = min(time.monotonic() + timeout, deadline)
                while (left := until - time.monotonic()) > 0:
                    batch = watch.get(left)
                    if batch is None:
                        break
                    assert not batch.missed, f"{batch.missed} frames missed: {batch.dropped}"
                    found.extend(
                        {key: frame[key] for key in frame if key != "tx"} for frame in batch.frames
                    )
                    if any(
                        frame["id"] == MARK and frame["data"] == f"{number:02x}"
                        for frame in batch.frames
                    ):
                        return True
                assert time.monotonic() < deadline, (
                    f"mark {number} did not come; {len(found)} frames did: {found[-3:]}"
                )
                return False

            number = 0
            while not (mark(number), marked(number, 2.0))[1]:
                number += 1
            send()
            mark(number + 1)
            marked(number + 1, DEADLINE)
        return [frame for frame in found if frame["id"] != MARK]


def plain(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames without their times."""
    return [{key: value for key, value in frame.items() if key != "t"} for frame in frames]


class Candump:
    """``candump`` on one link: what the kernel gave to somebody else. `sender`: the link whose
    frames it sees."""

    def __init__(self, link: Link, sender: Link | None = None) -> None:
        self._sender = sender or link
        self._process: Process = link.machine.start(
            "stdbuf", "-oL", "candump", "-L", "-r", BUFFER, link.name, timeout=4 * DEADLINE
        )

    def __enter__(self) -> Self:
        """Wait until it listens."""
        deadline = time.monotonic() + DEADLINE
        while not self._process.lines():
            assert time.monotonic() < deadline, "candump does not listen"
            self._sender.cansend(f"{MARK:08X}#")
            self._process.read(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def frames_up_to(self, last: str) -> list[str]:
        """All frames but marks as text, once `last` is there."""
        deadline = time.monotonic() + DEADLINE
        while last not in (found := [text for _, text in self._found()]):
            assert time.monotonic() < deadline, f"candump did not see {last}: {found[-3:]}"
            self._process.read(0.5)
        return found

    def frames(self, count: int) -> list[tuple[float, str]]:
        """All frames but marks, once there are `count`: time, and text as ``cansend`` takes it."""
        deadline = time.monotonic() + DEADLINE
        while len(found := self._found()) < count:
            assert time.monotonic() < deadline, (
                f"candump saw {len(found)} of {count} frames: {found[-3:]}"
            )
            self._process.read(0.5)
        return found

    def _found(self) -> list[tuple[float, str]]:
        matches = [_LINE.match(line) for line in self._process.lines()]
        lines = [
            (float(match[1]), f"{match[2]}#{_as_sent(match[3])}")
            for match in matches
            if match is not None
        ]
        return [line for line in lines if not line[1].startswith(f"{MARK:08X}#")]


def _as_sent(text: str) -> str:
    """Without the flag in which the kernel repeats that a frame is a CAN FD one (CANFD_FDF)."""
    return f"#{int(text[1], 16) & ~4:X}{text[2:]}" if text.startswith("#") else text


@contextmanager
def virtual_link(machine: Machine, rack: Rack, name: str, options: str = "") -> Iterator[Link]:
    """A vcan link that is up and streams; it is removed at the end. `options` are those of ``ip
    link add``."""
    machine.shell(f"ip link add {name} {options} type vcan; ip link set {name} up")
    try:
        yield Link(machine, rack, name).await_stream()
    finally:
        machine.run("ip", "link", "del", name)
