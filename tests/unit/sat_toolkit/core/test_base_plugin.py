"""BaseDeviceDriver: hooks, and the acquisition thread through all the ways in which it can end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sat_toolkit.core.base_plugin import BaseDeviceDriver, call_command
from sat_toolkit.errors import BadArgs, DriverError, UnknownCommand
from tests.unit.sdk_fakes import DEADLINE, FakeDriver, RecordingSink, datum, device


class Failures:
    """An `on_acquisition_failed` that can be waited for."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self._came = threading.Event()

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self._came.set()

    def wait(self) -> str:
        assert self._came.wait(DEADLINE), "nobody was told"
        return self.reasons[0]


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def driver(sink: RecordingSink) -> Iterator[FakeDriver]:
    driver = FakeDriver()
    driver.stream_manager.sink = sink
    driver.on_acquisition_failed = Failures()
    yield driver
    driver.does.pop("cleanup", None)
    driver.stop_streaming(device())


# --- configuration, device, commands -----------------------------------------------------------------


def test_configuration_is_handed_over_after_construction() -> None:
    driver = FakeDriver()
    driver.update_info({"a": 1})
    driver.update_info({"b": 2})
    assert driver.info == driver.get_info() == {"a": 1, "b": 2}
    assert FakeDriver({"c": 3}).info == {"c": 3}
    driver.get_info()["a"] = 5
    assert driver.info["a"] == 1


def test_two_drivers_share_no_declaration() -> None:
    driver = FakeDriver()
    driver.supported_commands["extra"] = "only here"
    assert "extra" not in FakeDriver().supported_commands


@pytest.mark.parametrize("operation", ["initialize", "connect"])
def test_the_device_is_set_before_the_hook_runs(driver: FakeDriver, operation: str) -> None:
    seen: list[Any] = []
    driver.does[operation] = lambda _: seen.append(driver.device) or True
    dev = device()
    assert getattr(driver, operation)(dev)
    assert seen == [dev]


@pytest.mark.parametrize("operation", ["initialize", "connect", "reset", "close"])
@pytest.mark.parametrize("falsy", [None, False, 0, ""])
def test_a_falsy_result_of_a_hook_is_a_failure(
    driver: FakeDriver, operation: str, falsy: Any
) -> None:
    driver.does[operation] = falsy
    assert getattr(driver, operation)(device()) is False


def test_scan_takes_none_for_nothing_and_remembers_devices(driver: FakeDriver) -> None:
    (found,) = driver.scan()
    assert driver.get_device("dev0") is found
    driver.does["scan"] = None
    assert driver.scan() == []
    assert driver.get_device("dev0") is None


def test_a_command_that_is_not_supported_never_reaches_the_driver(driver: FakeDriver) -> None:
    with pytest.raises(UnknownCommand, match="supported: go, start, stop"):
        driver.command(device(), "format_disk")
    assert driver.calls == []


def test_args_are_checked_before_the_driver_gets_them(driver: FakeDriver) -> None:
    driver.supported_commands = {"go": {"parameters": {"n": {"type": "integer"}}}}
    with pytest.raises(BadArgs, match=r"args\.n"):
        driver.command(device(), "go", {"n": "x"})
    assert driver.calls == []
    driver.does["command"] = lambda dev, command, args: args
    assert driver.command(device(), "go", {"n": 1}) == {"n": 1}
    assert driver.command(device(), "go") == {}, "without args a driver gets an empty dict"


def overriding(**methods: Any) -> FakeDriver:
    return type("Overriding", (FakeDriver,), methods)()


@pytest.mark.parametrize(
    ("method", "result"),
    [
        (lambda self, device, command: ("none", command), ("none", "go")),
        (lambda self, device, command, args=None, timeout=5: (args, timeout), ({}, 5)),
        (lambda self, device, command, *, args=None: args, {}),
        (lambda self, device, command, **options: options, {}),
        (lambda self, *everything: everything[1:], ("go", {})),
    ],
)
@pytest.mark.parametrize("name", ["command", "_command_impl"])
def test_a_command_method_of_any_signature_is_called_rightly(
    name: str, method: Any, result: Any
) -> None:
    assert call_command(overriding(**{name: method}), device(), "go", {}) == result


def test_args_for_a_method_that_takes_none_are_refused() -> None:
    driver = overriding(_command_impl=lambda self, device, command: "ran")
    with pytest.raises(BadArgs, match="takes no args"):
        call_command(driver, device(), "go", {"n": 1})


def test_an_overridden_command_is_checked_all_the_same() -> None:
    driver = overriding(command=lambda self, device, command, args=None: "ran")
    with pytest.raises(UnknownCommand):
        call_command(driver, device(), "nope", {})


# --- the acquisition ---------------------------------------------------------------------------------


def test_a_stream_opens_flows_and_closes(driver: FakeDriver, sink: RecordingSink) -> None:
    assert driver.start_streaming(device())
    assert driver.acquisition_thread.name == "sdk_fakes/acq/dev0"
    assert driver.is_acquiring.is_set()
    sink.wait_for(lambda s: len(s.received) >= 2)
    thread = driver.acquisition_thread
    assert driver.stop_streaming(device())
    assert not thread.is_alive()
    assert not driver.is_acquiring.is_set()
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]
    assert driver.calls == ["setup", "cleanup"]
    assert driver.on_acquisition_failed.reasons == []


def test_start_and_stop_may_be_repeated(driver: FakeDriver, sink: RecordingSink) -> None:
    driver.start_streaming(device())
    thread = driver.acquisition_thread
    driver.start_streaming(device())
    assert driver.acquisition_thread is thread
    for _ in range(2):
        assert driver.stop_streaming(device())
    assert driver.calls == ["setup", "cleanup"]
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]


def test_the_loop_knows_its_device_though_the_driver_forgot_to_set_it(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    """The guide's template leaves `self.device` None and reads it in its loop."""
    driver.device = None
    driver.start_streaming(device("other"))
    sink.wait_for(lambda s: bool(s.received))
    assert sink.received[0].channel == "other"
    driver.stop_streaming(device("other"))


def test_a_driver_that_starts_the_acquisition_alone_has_its_channel_too(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.start_acquisition(device())
    sink.wait_for(lambda s: bool(s.received))
    driver.stop_acquisition(device())
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]


@pytest.mark.parametrize("start", ["start_streaming", "start_acquisition"])
@pytest.mark.parametrize(("setup", "error"), [(OSError("no port"), OSError), (False, DriverError)])
def test_a_failed_setup_leaves_nothing_open(
    driver: FakeDriver, sink: RecordingSink, setup: Any, error: type[Exception], start: str
) -> None:
    driver.does["setup"] = setup
    with pytest.raises(error):
        getattr(driver, start)(device())
    assert not driver.is_acquiring.is_set()
    assert driver.acquisition_thread is None
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]


def test_an_exception_in_the_cleanup_still_closes_the_channel(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.does["cleanup"] = OSError("stuck")
    driver.start_streaming(device())
    with pytest.raises(OSError, match="stuck"):
        driver.stop_streaming(device())
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]
    assert not driver.is_acquiring.is_set()


@pytest.mark.parametrize(
    ("loop", "said"),
    [
        (OSError("port gone"), "OSError: port gone"),
        (SystemExit("bye"), "SystemExit: bye"),
        (lambda: None, "returned while streaming"),
    ],
)
def test_a_dead_loop_is_told_cleaned_up_and_its_channel_closed(
    driver: FakeDriver, sink: RecordingSink, loop: Any, said: str
) -> None:
    driver.does["loop"] = loop
    driver.start_streaming(device())
    assert said in driver.on_acquisition_failed.wait()
    assert not driver.is_acquiring.is_set()
    assert driver.calls == ["setup", "cleanup"]
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")]
    driver.stop_streaming(device())
    assert driver.calls == ["setup", "cleanup"], "a stop after the death cleans up no second time"
    assert len(driver.on_acquisition_failed.reasons) == 1


def test_a_dead_loop_whose_cleanup_fails_is_told_with_both(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.does |= {"loop": OSError("gone"), "cleanup": RuntimeError("stuck")}
    driver.start_streaming(device())
    reason = driver.on_acquisition_failed.wait()
    assert "OSError: gone" in reason
    assert "RuntimeError: stuck" in reason
    assert ("closed", "dev0") in sink.events


def test_a_stream_can_start_again_after_its_loop_died(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.does["loop"] = OSError("once")
    driver.start_streaming(device())
    driver.on_acquisition_failed.wait()
    del driver.does["loop"]
    driver.start_streaming(device())
    sink.wait_for(lambda s: bool(s.received))


def test_a_loop_may_stop_its_own_stream(driver: FakeDriver, sink: RecordingSink) -> None:
    driver.does["loop"] = lambda: driver.stop_streaming(device())
    driver.start_streaming(device())
    sink.wait_for(lambda s: ("closed", "dev0") in s.events)
    assert driver.on_acquisition_failed.reasons == []
    assert driver.calls == ["setup", "cleanup"]


def test_a_loop_that_clears_its_event_has_ended_and_not_died(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.does["loop"] = lambda: driver.is_acquiring.clear()
    driver.start_streaming(device())
    sink.wait_for(lambda s: ("closed", "dev0") in s.events)
    assert driver.on_acquisition_failed.reasons == []
    assert driver.calls == ["setup", "cleanup"]


@pytest.mark.parametrize("operation", ["close", "reset"])
def test_close_and_reset_stop_the_stream_first(driver: FakeDriver, operation: str) -> None:
    driver.start_streaming(device())
    thread = driver.acquisition_thread
    assert getattr(driver, operation)(device())
    assert not thread.is_alive()
    assert driver.calls == ["setup", "cleanup", operation]


@pytest.mark.parametrize("cleanup", [OSError("stuck"), SystemExit("bye")])
def test_close_closes_though_the_stream_would_not_end(
    driver: FakeDriver, cleanup: BaseException
) -> None:
    driver.does["cleanup"] = cleanup
    driver.start_streaming(device())
    assert driver.close(device())
    assert driver.calls[-1] == "close"


class Zombie:
    """A loop that is stuck in its first read until `release`, and then reads `is_acquiring`
    again."""

    def __init__(self, driver: BaseDeviceDriver) -> None:
        self._driver = driver
        self.stuck, self.release, self.over = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self.answers: list[bool] = []

    def __call__(self) -> None:
        self.stuck.set()
        self.release.wait(DEADLINE)
        self._driver.is_acquiring.set()  # not even this revives it
        self.answers += [self._driver.is_acquiring.is_set(), self._driver.is_acquiring.wait(0)]
        self.over.set()


def test_a_loop_that_outlived_its_stop_never_revives(
    driver: FakeDriver, sink: RecordingSink
) -> None:
    driver.acquisition_join_timeout = 0.05
    zombie = driver.does["loop"] = Zombie(driver)
    driver.start_streaming(device())
    zombie_thread = driver.acquisition_thread
    assert zombie.stuck.wait(DEADLINE)
    driver.stop_streaming(device())
    assert zombie_thread.is_alive()
    del driver.does["loop"]
    driver.start_streaming(device())
    sink.wait_for(lambda s: bool(s.received))

    zombie.release.set()
    assert zombie.over.wait(DEADLINE)
    zombie_thread.join(DEADLINE)
    assert zombie.answers == [False, False]
    assert driver.is_acquiring.is_set(), "the present stream goes on"
    assert driver.on_acquisition_failed.reasons == []
    seen = len(sink.received)
    sink.wait_for(lambda s: len(s.received) > seen)


def test_a_helper_thread_that_keeps_its_event_ends_with_its_own_run(driver: FakeDriver) -> None:
    """The documented way for a thread that a driver starts in `_setup_acquisition`."""
    kept: list[threading.Event] = []
    driver.does["setup"] = lambda _: kept.append(driver.is_acquiring)
    driver.start_streaming(device())
    assert kept[0].is_set()
    driver.stop_streaming(device())
    driver.start_streaming(device())
    assert not kept[0].is_set()
    assert kept[1].is_set()


def test_a_driver_that_starts_its_own_thread_is_stopped_and_cleaned_up() -> None:
    """A driver of the guide's era may override `start_acquisition`."""

    class Own(FakeDriver):
        def start_acquisition(self, device: Any) -> bool:
            self._setup_acquisition(device)
            self.is_acquiring.set()
            self.acquisition_thread = threading.Thread(target=self._acquisition_loop)
            self.acquisition_thread.start()
            return True

    sink, driver = RecordingSink(), Own()
    driver.stream_manager.sink = sink
    driver.device = device()
    for _ in range(2):
        driver.start_streaming(device())
        thread = driver.acquisition_thread
        count = len(sink.received)
        sink.wait_for(lambda s, count=count: len(s.received) > count)
        driver.close(device())
        assert not thread.is_alive()
    assert driver.calls == ["setup", "cleanup", "close"] * 2
    assert sink.events == [("opened", "dev0"), ("closed", "dev0")] * 2


def test_a_driver_may_bring_its_own_event(driver: FakeDriver) -> None:
    own = threading.Event()
    driver.is_acquiring = own
    assert driver.is_acquiring is own


def test_client_data_waits_for_get_client_data(driver: FakeDriver) -> None:
    driver._client_data_impl(device(), datum(data="in"))
    assert driver.stream_manager.get_client_data().data == "in"


def test_a_driver_without_a_loop_says_so() -> None:
    class NoLoop(FakeDriver):
        _acquisition_loop = BaseDeviceDriver._acquisition_loop

    driver = NoLoop()
    driver.on_acquisition_failed = Failures()
    driver.start_streaming(device())
    assert (
        "NoLoop does not stream: it has no _acquisition_loop" in driver.on_acquisition_failed.wait()
    )
