"""DriverRunner: what each failure of a driver means for its device, and that none gets through
raw."""

from __future__ import annotations

from typing import Any

import pytest

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.errors import (
    BadArgs,
    Busy,
    CommandFailed,
    DriverError,
    Internal,
    SatError,
    UnknownCommand,
)
from sat_toolkit.models.Device_Model import Device
from tests.unit.sdk_fakes import FakeDriver, RecordingSink, datum, device

HOSTILE = [
    OSError("unplugged"),
    RuntimeError("bug"),
    SystemExit("bye"),
    KeyboardInterrupt(),
    GeneratorExit(),
]


def runner_of(driver_class: type[FakeDriver] = FakeDriver, **options: Any) -> DriverRunner:
    return DriverRunner(driver_class, {}, device(), **options)


def fake(runner: DriverRunner) -> FakeDriver:
    """Its driver."""
    assert isinstance(runner.driver, FakeDriver)
    return runner.driver


def keeps_state(error: SatError) -> bool:
    return isinstance(error, CommandFailed) or not isinstance(error, DriverError)


# --- making and scanning -------------------------------------------------------------------------------


def test_the_configuration_reaches_the_driver() -> None:
    assert DriverRunner(FakeDriver, {"port": 1}, device()).driver.info == {"port": 1}


@pytest.mark.parametrize("error", HOSTILE)
def test_a_constructor_that_fails_is_a_driver_error(error: BaseException) -> None:
    def fail(self: Any) -> None:
        raise error

    with pytest.raises(DriverError, match=f"Failing cannot be made: {type(error).__name__}"):
        runner_of(type("Failing", (FakeDriver,), {"__init__": fail}))


@pytest.mark.parametrize("error", HOSTILE)
def test_a_scan_that_fails_is_a_driver_error(error: BaseException) -> None:
    runner = DriverRunner(FakeDriver)
    fake(runner).does["scan"] = error
    with pytest.raises(DriverError, match=f"Scan failed: {type(error).__name__}"):
        runner.scan()


def test_what_is_no_device_does_not_spoil_the_scan() -> None:
    runner = DriverRunner(FakeDriver)
    good = device("good")
    fake(runner).does["scan"] = [None, "can0", device(""), good, device("good"), device("too")]
    assert [d.device_id for d in runner.scan()] == ["good", "too"]
    assert runner.scan()[0] is good


def test_an_instance_without_a_device_only_scans() -> None:
    runner = DriverRunner(FakeDriver)
    for operation in (runner.initialize, lambda: runner.command("go")):
        with pytest.raises(Internal, match="has no device"):
            operation()


# --- the rescan ----------------------------------------------------------------------------------------


class KeepsHandles(FakeDriver):
    """A driver of the guide's era: what it needs to initialise, its scan has left in itself."""

    def _scan_impl(self) -> list[Device]:
        self.handles = {"dev0": object()}
        return [Device("dev0", "scanned here", "Custom", {"handle": self.handles["dev0"]})]

    def _initialize_impl(self, device: Device) -> bool:
        return device.attributes["handle"] is self.handles[device.device_id]


def test_a_driver_that_keeps_handles_from_its_scan_scans_again_once() -> None:
    runner = runner_of(KeepsHandles)
    runner.device.host = "bench1"
    runner.initialize()
    assert runner.device.name == "scanned here"
    assert runner.device.host == "bench1"
    vars(runner.driver)["handles"].clear()
    with pytest.raises(DriverError):
        runner.initialize()


def test_a_driver_that_needs_no_rescan_gets_none() -> None:
    runner = runner_of(type("NoRescan", (FakeDriver,), {"rescan_in_worker": False}))
    runner.initialize()
    assert fake(runner).calls == ["initialize"]


@pytest.mark.parametrize("scan", [OSError("busy"), [], None])
def test_a_rescan_that_does_not_find_the_device_does_not_stop_initialize(scan: Any) -> None:
    runner = runner_of()
    fake(runner).does["scan"] = scan
    given = runner.device
    runner.initialize()
    assert runner.device is given
    assert fake(runner).calls == ["scan", "initialize"]


# --- lifecycle operations --------------------------------------------------------------------------------

FAILURES = {
    "initialize": "Initialization failed",
    "connect": "Connection failed",
    "reset": "Reset failed",
    "close": "Close failed",
}


@pytest.mark.parametrize("operation", FAILURES)
def test_an_operation_calls_its_hook(operation: str) -> None:
    runner = runner_of()
    getattr(runner, operation)()
    assert fake(runner).calls[-1] == operation


@pytest.mark.parametrize("operation", FAILURES)
def test_a_falsy_result_is_the_bare_message(operation: str) -> None:
    runner = runner_of()
    fake(runner).does[operation] = None
    with pytest.raises(DriverError) as caught:
        getattr(runner, operation)()
    assert str(caught.value) == FAILURES[operation]


@pytest.mark.parametrize("operation", FAILURES)
@pytest.mark.parametrize("error", [*HOSTILE, ValueError("x"), CommandFailed("x"), BadArgs("x")])
def test_every_exception_of_an_operation_leads_to_error(
    operation: str, error: BaseException
) -> None:
    runner = runner_of()
    fake(runner).does[operation] = error
    with pytest.raises(DriverError) as caught:
        getattr(runner, operation)()
    assert str(caught.value).startswith(FAILURES[operation])
    assert str(error) in str(caught.value)
    assert not keeps_state(caught.value)


@pytest.mark.parametrize("operation", ["reset", "close"])
@pytest.mark.parametrize("cleanup", [True, OSError("stuck"), SystemExit("bye")])
def test_an_overridden_close_or_reset_still_stops_the_stream(operation: str, cleanup: Any) -> None:
    sink = RecordingSink()
    override = {operation: lambda self, device: True}
    runner = runner_of(type("Overriding", (FakeDriver,), override), sink=sink)
    fake(runner).does["cleanup"] = cleanup
    runner.command("start")
    assert runner.acquiring
    getattr(runner, operation)()
    assert not runner.acquiring
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]


# --- commands ------------------------------------------------------------------------------------------


def test_a_result_is_plain_json() -> None:
    runner = runner_of()
    fake(runner).does["command"] = {"raw": b"\x01", "device": device()}
    assert runner.command("go", {"n": 1}) == {"raw": "01", "device": device().to_dict()}


@pytest.mark.parametrize("result", [None, False, 0, "", []])
def test_a_falsy_result_of_a_command_is_a_result(result: Any) -> None:
    runner = runner_of()
    fake(runner).does["command"] = result
    assert runner.command("go") == result


@pytest.mark.parametrize(
    ("error", "becomes", "text"),
    [
        (ValueError("too large"), CommandFailed, "too large"),
        (ValueError(), CommandFailed, "ValueError"),
        (TimeoutError("no answer"), CommandFailed, "no answer"),
        (CommandFailed("nack"), CommandFailed, "nack"),
        (BadArgs("wrong id"), BadArgs, "wrong id"),
        (Busy("later"), Busy, "later"),
        (OSError("gone"), DriverError, "OSError: gone"),
        (KeyError("k"), DriverError, "KeyError: 'k'"),
        (DriverError("dead"), DriverError, "dead"),
        (Internal("broken"), DriverError, "Internal: broken"),
        (SystemExit("bye"), DriverError, "SystemExit: bye"),
        (KeyboardInterrupt(), DriverError, "KeyboardInterrupt"),
    ],
)
def test_what_a_commands_exception_means(
    error: BaseException, becomes: type[SatError], text: str
) -> None:
    runner = runner_of()
    fake(runner).does["command"] = error
    with pytest.raises(SatError) as caught:
        runner.command("go")
    assert type(caught.value) is becomes
    assert str(caught.value) == text
    assert keeps_state(caught.value) is (becomes is not DriverError)


def test_a_refused_command_runs_nothing() -> None:
    runner = runner_of()
    runner.driver.supported_commands = {"go": {"parameters": {}}}
    with pytest.raises(UnknownCommand):
        runner.command("nope")
    with pytest.raises(BadArgs):
        runner.command("go", {"n": 1})
    assert fake(runner).calls == []


def test_a_value_error_leaves_the_stream_running() -> None:
    runner = runner_of(sink=(sink := RecordingSink()))
    runner.command("start")
    fake(runner).does["command"] = ValueError("x")
    with pytest.raises(CommandFailed):
        runner.command("go")
    seen = len(sink.received)
    sink.wait_for(lambda s: len(s.received) > seen)
    runner.close()


def test_the_declared_commands_are_offered() -> None:
    assert runner_of().commands()["go"].description == "do it"


# --- client data ---------------------------------------------------------------------------------------


def test_client_data_reaches_the_queue_of_a_driver_without_the_hook() -> None:
    runner = runner_of()
    runner.client_data(datum(data="in"))
    assert runner.driver.stream_manager.get_client_data().data == "in"


def test_client_data_reaches_the_hook_of_a_driver_that_has_one() -> None:
    got: list[Any] = []
    hook = {
        "_client_data_impl": lambda self, device, data: got.append((device.device_id, data.data))
    }
    runner = runner_of(type("Taking", (FakeDriver,), hook))
    runner.client_data(datum(data="in"))
    assert got == [("dev0", "in")]
    assert runner.driver.stream_manager.get_client_data() is None


@pytest.mark.parametrize(("error", "kept"), [(ValueError("x"), True), (OSError("x"), False)])
def test_a_failure_of_the_hook_means_what_it_means_for_a_command(
    error: Exception, kept: bool
) -> None:
    def fail(*_: Any) -> None:
        raise error

    runner = runner_of(type("Failing", (FakeDriver,), {"_client_data_impl": fail}))
    with pytest.raises(DriverError) as caught:
        runner.client_data(datum())
    assert keeps_state(caught.value) is kept


def test_a_driver_that_skips_the_base_constructor_is_told_apart() -> None:
    class Skips(BaseDeviceDriver):
        def __init__(self) -> None:
            """Forgets super().__init__()."""

    with pytest.raises(DriverError, match="Skips cannot be made: AttributeError"):
        DriverRunner(Skips)


def test_args_that_were_checked_elsewhere_are_taken_as_they_are() -> None:
    runner = runner_of()
    fake(runner).supported_commands = {
        "go": {"parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    }
    fake(runner).does["command"] = lambda device, command, args: args
    with pytest.raises(BadArgs):
        runner.command("go", {"n": "x"})
    assert runner.command("go", {"n": "x"}, checked=True) == {"n": "x"}
    assert fake(runner).device is runner.device
    with pytest.raises(UnknownCommand, match="supported: go"):
        runner.command("nope", checked=True)


def test_a_driver_with_a_command_of_its_own_gets_checked_args_there() -> None:
    class Own(FakeDriver):
        def command(self, device: Device, command: str, args: Any = None) -> Any:
            return [command, args]

    assert runner_of(Own).command("go", {"n": 1}, checked=True) == ["go", {"n": 1}]
