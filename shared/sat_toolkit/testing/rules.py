"""What every driver has to hold, one rule a function. Each runs on a bench of its own and raises
`Violation`.

A rule that asks nothing of a driver passes. `Rule.fix` says what to do about a violation; what the
driver itself raised comes through as it is, with its traceback.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError, UnknownCommand
from sat_toolkit.models.Device_Model import Device
from sat_toolkit.testing.bench import Bench, Rig, Violation, eventually, travelled
from sat_toolkit.testing.evidence import (
    check_alive,
    check_frame,
    check_open,
    class_state,
    frames_of,
    may_call,
    misfits,
    open_files,
    require,
    require_refusal,
    stop,
    unexpected_threads,
    use,
)

CLOSE_LIMIT = 10.0  # seconds; a host kills the worker then
UNPLUG_LIMIT = 5.0
CYCLES = 4
_ADDRESS = re.compile(r" at 0x[0-9a-f]+>")
_NOT_KNOWN = re.compile(
    r"\b(unknown|unsupported|not supported|not implemented|invalid) command\b", re.I
)


Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Rule:
    """One rule: `name` is what is held, in words; `check` runs it on an entered bench.

    `needs` is the check of a rule without which this one says nothing new.
    """

    name: str
    check: Check
    fix: str
    needs: Check | None = None

    def __str__(self) -> str:
        return self.name

    def run(self, bench: Bench) -> None:
        """Run it on a bench that is not entered yet.

        Raises:
            Violation: it is not held, or something was left behind.
            Exception: the driver raised it.
        """
        with bench:
            self.check(bench)


RULES: list[Rule] = []


def _rule(name: str, fix: str, needs: Check | None = None) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        RULES.append(Rule(name, check, fix, needs))
        return check

    return register


# --- scan --------------------------------------------------------------------------------------------


@_rule(
    "the scan gives devices that can travel",
    "return Device objects with an id of their own and JSON in attributes",
)
def scan(bench: Bench) -> None:
    scanner = bench.scanner()
    found = scanner.driver.scan()
    require(found, "the scan finds no device")
    for device in found:
        require(
            isinstance(device, Device), f"the scan gives a {type(device).__name__}: {device!r:.100}"
        )
        require(
            device.device_id and isinstance(device.device_id, str),
            f"{device!r} has no text as its device_id",
        )
        attributes = travelled(device).attributes
        lost = [name for name, value in device.attributes.items() if attributes.get(name) != value]
        require(
            not lost,
            f"{device.device_id}: these attributes change when they travel as JSON: {lost}",
        )
    ids = [device.device_id for device in found]
    require(len(set(ids)) == len(ids), f"the scan gives an id twice: {ids}")


@_rule(
    "a second scan finds the same devices",
    "derive device_id from the hardware or the configuration, not a counter",
)
def scan_again(bench: Bench) -> None:
    scanner = bench.scanner()
    first, second = ([device.device_id for device in scanner.scan()] for _ in range(2))
    other = [device.device_id for device in bench.scan()]
    require(
        sorted(first) == sorted(second) == sorted(other),
        f"first {first}, then {second}, in another instance {other}",
    )


@_rule(
    "wait_for_change returns in time",
    "wait no longer than the timeout that wait_for_change is given",
)
def watch(bench: Bench) -> None:
    if bench.subject.driver.wait_for_change is BaseDeviceDriver.wait_for_change:
        return
    driver = bench.scanner().driver
    for _ in range(2):
        began = time.monotonic()
        answer = driver.wait_for_change(0.2)
        took = time.monotonic() - began
        require(
            isinstance(answer, bool),
            f"wait_for_change gives {answer!r}, which is neither True nor False",
        )
        require(took < 2.0, f"wait_for_change(0.2) takes {took:.1f} s")


# --- lifecycle ---------------------------------------------------------------------------------------


@_rule(
    "the device goes up and down",
    "return True from the hook that did its work, and raise what went wrong",
)
def lifecycle(bench: Bench) -> None:
    rig = bench.rig().up()
    rig.close()


@_rule(
    "close and reset may be called twice, and early",
    "close only what is open: set it to None once it is closed",
    needs=lifecycle,
)
def idempotence(bench: Bench) -> None:
    rig = bench.rig()
    rig.runner.initialize()
    rig.close()
    rig.runner.initialize()
    rig.runner.reset()
    rig.up()
    rig.runner.reset()
    rig.runner.reset()
    rig.close()
    rig.close()


@_rule(
    "reset brings the device back",
    "release in _reset_impl all that _connect_impl opened, so that it can open again",
    needs=lifecycle,
)
def recovery(bench: Bench) -> None:
    rig = bench.rig().up()
    rig.runner.reset()
    rig.up()
    use(rig)


@_rule(
    "nothing is left open",
    "close in _close_impl and in _reset_impl all that the other hooks opened",
    needs=lifecycle,
)
def leaks(bench: Bench) -> None:
    def cycle(ending: Callable[[Rig], None]) -> None:
        rig = bench.rig(device).up()
        ending(rig)
        rig.close()

    device = bench.device()
    cycle(Rig.close)  # what is opened once and for all is open now
    before = open_files()
    for number in range(CYCLES):
        cycle(Rig.close if number % 2 else lambda rig: rig.runner.reset())
    gone = eventually(lambda: open_files() <= before, 3.0)
    require(
        gone,
        f"{before} files and sockets are open after one connect, {open_files()} after {CYCLES} more",
    )
    require(
        not unexpected_threads(bench),
        f"threads are left running: {', '.join(unexpected_threads(bench))}",
    )


# --- commands ----------------------------------------------------------------------------------------


@_rule("commands are declared in a way that makes sense", "see Commands in the guide")
def declarations(bench: Bench) -> None:
    for command in bench.rig().commands.values():
        require(command.description.strip(), f"the command {command.name} has no description")


@_rule(
    "what is not declared is refused",
    "leave command() and get_supported_commands() to the base class",
    needs=lifecycle,
)
def unknown_command(bench: Bench) -> None:
    rig = bench.rig().up()
    require_refusal(rig, "no_such_command", {}, UnknownCommand)


@_rule(
    "args that do not fit are refused",
    "leave command() to the base class, which checks the args",
    needs=lifecycle,
)
def bad_args(bench: Bench) -> None:
    rig = bench.rig().up()
    for command in rig.commands.values():
        for args in misfits(command):
            require_refusal(rig, command.name, args, BadArgs)


@_rule(
    "each command answers, in JSON",
    "handle in _command_impl each command that is declared, and return plain data",
    needs=lifecycle,
)
def results(bench: Bench) -> None:
    rig = bench.rig().up()
    for command in rig.commands.values():
        if command.name in ("start", "stop") or not may_call(bench, command):
            continue
        try:
            answer = json.dumps(rig.command(command.name))
        except (CommandFailed, BadArgs) as refusal:
            declared_only = _NOT_KNOWN.search(str(refusal))
            require(not declared_only, f"{command.name} is declared, and then refused: {refusal}")
        else:
            require(
                not _ADDRESS.search(answer),
                f"{command.name} gives an object that is no data: {answer:.200}",
            )


# --- streams -----------------------------------------------------------------------------------------


@_rule(
    "the stream starts and stops",
    "let _acquisition_loop end when self.is_acquiring is cleared",
    needs=lifecycle,
)
def stream(bench: Bench) -> None:
    if not bench.subject.streams:
        return
    rig = bench.rig().up()
    before = len(bench.new_threads())
    for _ in range(2):
        seen = len(rig.recorder.frames)
        rig.start()
        check_open(rig)
        frames_of(bench, rig, after=seen)
        stop(rig)
        ended = eventually(lambda: len(bench.new_threads()) <= before, 3.0)
        require(ended, f"threads of the stream are left: {', '.join(bench.new_threads())}")


@_rule(
    "frames say what they are",
    "see Streams in the guide: channel is the device's id, timestamp the time of capture",
    needs=stream,
)
def frames(bench: Bench) -> None:
    if not bench.subject.streams:
        return
    rig = bench.rig().up()
    rig.start()
    for frame in frames_of(bench, rig, count=3):
        check_frame(bench, rig, frame)
    stop(rig)
    dropped = rig.runner.driver.stream_manager.unregistered_dropped
    require(not dropped, f"{dropped} frames were sent on a channel that was not open")


@_rule(
    "start and stop may be called twice",
    "leave start_streaming and stop_streaming to the base class",
    needs=stream,
)
def stream_twice(bench: Bench) -> None:
    if not bench.subject.streams:
        return
    rig = bench.rig().up()
    rig.start()
    check_alive(rig)
    threads = bench.new_threads()
    rig.start()
    require(
        len(bench.new_threads()) <= len(threads),
        f"a second start starts threads: {', '.join(bench.new_threads())}",
    )
    stop(rig)
    stop(rig)


@_rule(
    "close while streaming ends the stream",
    "do not override close() or reset(); use _close_impl and _reset_impl",
    needs=stream,
)
def close_while_streaming(bench: Bench) -> None:
    if not bench.subject.streams:
        return
    for ending in (Rig.close, lambda rig: rig.runner.reset()):
        rig = bench.rig().up()
        rig.start()
        began = time.monotonic()
        ending(rig)
        took = time.monotonic() - began
        require(took < CLOSE_LIMIT, f"it takes {took:.1f} s, and a host waits {CLOSE_LIMIT:g} s")
        require(not rig.recorder.open, f"the channel {', '.join(rig.recorder.open)} is still open")
        require(not rig.runner.acquiring, "is_acquiring is still set")
        check_alive(rig)
        rig.up()
        rig.start()
        frames_of(bench, rig, after=len(rig.recorder.frames))
        rig.close()


@_rule(
    "a device that is gone is said to be gone",
    "let the error of a dead port out of _acquisition_loop",
    needs=stream,
)
def unplugged(bench: Bench) -> None:
    if not bench.subject.streams or not bench.subject.simulated:
        return
    rig = bench.rig().up()
    rig.start()
    frames_of(bench, rig)
    bench.unplug()
    try:
        rig.recorder.wait_failure(UNPLUG_LIMIT)
    except TimeoutError:
        raise Violation(
            f"{UNPLUG_LIMIT:g} s after the device was unplugged the stream still counts as running"
        ) from None
    began = time.monotonic()
    with suppress(DriverError):  # it may say so, but not hang over it
        rig.close()
    took = time.monotonic() - began
    require(
        took < CLOSE_LIMIT, f"close takes {took:.1f} s then, and a host waits {CLOSE_LIMIT:g} s"
    )


# --- instances ---------------------------------------------------------------------------------------


@_rule(
    "instances are independent",
    "keep everything in self, and make it in __init__; share nothing on the class",
    needs=stream,
)
def independence(bench: Bench) -> None:
    shared = class_state(bench.subject.driver)
    devices = sorted(bench.scan(), key=lambda device: device.device_id != bench.device().device_id)
    rig = bench.rig(devices[0]).up()
    if bench.subject.streams:
        rig.start()
    if len(devices) > 1:
        other = bench.rig(devices[1]).up()
        if bench.subject.streams:
            other.start()
            frames_of(bench, other)
            foreign = {frame.channel for frame in rig.recorder.frames} - {rig.device.device_id}
            require(
                not foreign,
                f"the stream of {rig.device.device_id} carries frames of {', '.join(foreign)}",
            )
        other.close()
    bench.scan()
    use(rig)
    if bench.subject.streams:
        check_alive(rig)
        require(
            rig.runner.acquiring, "the stream ended when another instance was closed, or scanned"
        )
        frames_of(bench, rig, count=2, after=len(rig.recorder.frames))
    rig.close()
    changed = [
        name
        for name, value in class_state(bench.subject.driver).items()
        if value != shared.get(name)
    ]
    require(not changed, f"all instances share {', '.join(changed)}, which is changed in use")
