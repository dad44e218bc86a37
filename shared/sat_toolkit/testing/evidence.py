"""What the rules look at: frames, refusals, shared state, open files. Not for use outside of
`rules`."""

from __future__ import annotations

import copy
import gc
import os
import time
from typing import Any

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.commands import Command
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamType
from sat_toolkit.testing.bench import Bench, Rig, Violation, eventually

_DAY = 86_400.0
_WRONG: dict[str, Any] = {
    "string": 17,
    "integer": "x",
    "number": "x",
    "boolean": "x",
    "array": 17,
    "object": 17,
}


def require(condition: object, text: str) -> None:
    """Raise `Violation` with `text` unless `condition` is true."""
    if not condition:
        raise Violation(text)


def use(rig: Rig) -> None:
    """Something harmless, to see that the device is there."""
    if "status" in rig.commands and not rig.commands["status"].parameters.get("required"):
        rig.command("status")


def check_alive(rig: Rig) -> None:
    """The stream has not died by itself."""
    if rig.recorder.failures:
        raise Violation(rig.recorder.failures[0]) from rig.runner.driver.acquisition_error


def check_open(rig: Rig) -> None:
    """The stream runs, its channel is open."""
    check_alive(rig)
    if rig.device.device_id not in rig.recorder.open:
        eventually(
            lambda: bool(rig.recorder.failures), 0.5
        )  # a channel is closed before its end is told
        check_alive(rig)
        raise Violation(f"the channel {rig.device.device_id} is not open")


def stop(rig: Rig) -> None:
    """Stop a stream that has not died."""
    check_alive(rig)
    rig.stop()
    require(
        not rig.recorder.open,
        f"the channel {', '.join(rig.recorder.open)} is still open after stop",
    )
    require(not rig.runner.acquiring, "is_acquiring is still set after stop")
    check_alive(rig)


def frames_of(bench: Bench, rig: Rig, count: int = 1, after: int = 0) -> list[StreamData]:
    """Frames of a running stream; none where the device may be silent."""
    limit = bench.subject.frames_within
    check_alive(rig)
    if limit is None:
        return rig.recorder.frames[after:]
    try:
        return rig.recorder.wait_frames(count, after=after, timeout=limit)
    except TimeoutError as error:
        check_alive(rig)
        dropped = rig.runner.driver.stream_manager.unregistered_dropped
        wrong = f"; {dropped} were sent on another channel than the device's id" if dropped else ""
        raise Violation(f"the stream runs, and {error}{wrong}") from None


def check_frame(bench: Bench, rig: Rig, frame: StreamData) -> None:
    kinds = bench.subject.driver.stream_types
    require(
        frame.channel == rig.device.device_id,
        f"the channel is {frame.channel!r}, not {rig.device.device_id!r}",
    )
    require(
        isinstance(frame.stream_type, StreamType),
        f"the stream_type is {frame.stream_type!r}, no StreamType",
    )
    declared = frame.stream_type in kinds
    require(
        declared,
        f"stream_types lacks StreamType.{frame.stream_type.name}, which the stream carries",
    )
    require(
        isinstance(frame.action, StreamAction), f"the action is {frame.action!r}, no StreamAction"
    )
    number = isinstance(frame.timestamp, int | float)
    require(
        number and abs(time.time() - frame.timestamp) < _DAY,
        f"the timestamp {frame.timestamp!r} is not of today",
    )
    plain = isinstance(frame.data, dict | list | str | bytes | bytearray | int | float)
    require(plain, f"the data is a {type(frame.data).__name__}; give a dict, a text or bytes")


def require_refusal(rig: Rig, name: str, args: dict[str, Any], kind: type[Exception]) -> None:
    try:
        answer = rig.runner.command(name, args)
    except kind:
        return
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise Violation(
            f"{name} with {args} fails with {said}, where {kind.__name__} is due"
        ) from error
    raise Violation(f"{name} with {args} is not refused, it answers {answer!r:.100}")


def misfits(command: Command) -> list[dict[str, Any]]:
    """Args that the command's schema refuses."""
    schema = command.parameters
    found: list[dict[str, Any]] = []
    if schema.get("required"):
        found.append({})
    if schema.get("additionalProperties") is False:
        found.append({"no_such_arg": 1})
    for name, inner in (schema.get("properties") or {}).items():
        kind = inner.get("type") if isinstance(inner, dict) else None
        if isinstance(kind, str) and kind in _WRONG:
            found.append({name: _WRONG[kind]})
    return found


def may_call(bench: Bench, command: Command) -> bool:
    """Real hardware is asked for its status only, and for what the test gave args for."""
    if command.name in bench.subject.arguments:
        return True
    if command.parameters.get("required"):
        return False
    return bench.subject.simulated or command.name == "status"


def class_state(driver: type[BaseDeviceDriver]) -> dict[str, Any]:
    """What the driver's classes hold that could be changed in place."""
    return {
        f"{cls.__name__}.{name}": copy.deepcopy(value)
        for cls in driver.__mro__
        if issubclass(cls, BaseDeviceDriver) and cls is not BaseDeviceDriver
        for name, value in vars(cls).items()
        if isinstance(value, dict | list | set | bytearray)
    }


def unexpected_threads(bench: Bench) -> list[str]:
    """Threads beside those of the simulator."""
    eventually(
        lambda: not [name for name in bench.new_threads() if not name.startswith("sim/")], 3.0
    )
    return [name for name in bench.new_threads() if not name.startswith("sim/")]


def open_files() -> int:
    """How many file descriptors this process has; 0 where the system does not say."""
    gc.collect()
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
