"""DeviceDriverManager in process: its dicts word for word, and the lifecycle behind them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sat_toolkit.core import lifecycle
from sat_toolkit.core.device_manager import DeviceDriverManager, backend_from
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.core.local_backend import LocalBackend
from sat_toolkit.core.plugin_loader import PluginFile
from sat_toolkit.errors import CommandFailed, ConfigError
from sat_toolkit.models.Device_Model import Device
from tests.unit.sdk_fakes import DEADLINE, FakeDriver, RecordingSink, device

DRV = "drv_fake"


class Bench:
    """A manager over one fake driver; `does` and `calls` are those of all its instances."""

    def __init__(self, **options: Any) -> None:
        bench = self
        self.does: dict[str, Any] = {"scan": [device("a"), device("b")]}
        self.calls: list[str] = []
        self.instances: list[FakeDriver] = []
        self.sink = RecordingSink()

        class Driver(FakeDriver):
            rescan_in_worker = False

            def __init__(self) -> None:
                super().__init__()
                self.does, self.calls = bench.does, bench.calls
                bench.instances.append(self)
                if "init" in self.does:
                    raise self.does["init"]

        plugin = PluginFile(DRV, "fake", Path("drv_fake.py"))
        self.backend = LocalBackend([plugin], sink=self.sink, load=lambda _: Driver)
        self.manager = DeviceDriverManager(self.backend, **options)

    def state(self, device_id: str = "a") -> DeviceState:
        return self.manager.device_states.get(f"{DRV}:{device_id}", DeviceState.UNKNOWN)

    def connected(self, device_id: str = "a") -> Bench:
        assert self.manager.connect_device(DRV, device_id)["status"] == "success"
        return self


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.does.clear()
    bench.manager.close()


def error(message: str, code: str) -> dict[str, str]:
    return {"status": "error", "message": message, "code": code}


# --- the table of the calls --------------------------------------------------------------------------


def test_the_guides_way_through_the_lifecycle(bench: Bench) -> None:
    manager = bench.manager
    scanned = manager.scan_devices(DRV)
    assert scanned == {"status": "success", "devices": [device("a"), device("b")]}
    dev = scanned["devices"][0]
    assert bench.state() is DeviceState.DISCOVERED
    assert manager.initialize_device(DRV, dev) == {
        "status": "success",
        "message": "Device initialized",
    }
    assert bench.state() is DeviceState.INITIALIZED
    assert manager.connect_device(DRV, dev) == {"status": "success", "message": "Device connected"}
    assert bench.state() is DeviceState.CONNECTED
    assert manager.execute_command(DRV, "go", device_id="a") == {
        "status": "success",
        "result": True,
    }
    assert bench.state() is DeviceState.CONNECTED
    assert manager.reset_device(DRV, dev) == {"status": "success", "message": "Device reset"}
    assert bench.state() is DeviceState.DISCONNECTED
    manager.initialize_device(DRV, dev)
    assert manager.close_device(DRV, dev) == {"status": "success", "message": "Device closed"}
    assert bench.state() is DeviceState.DISCONNECTED
    assert bench.calls == [
        "scan",
        "initialize",
        "connect",
        "command",
        "reset",
        "initialize",
        "close",
    ]


def test_an_operation_that_is_done_already_says_so_and_calls_nothing(bench: Bench) -> None:
    manager = bench.connected().manager
    bench.calls.clear()
    for call in (manager.connect_device, manager.initialize_device):
        assert call(DRV, "a") == {"status": "success", "message": "Device already connected"}
    manager.close_device(DRV, "a")
    for call in (manager.close_device, manager.reset_device):
        assert call(DRV, "a") == {"status": "success", "message": "Device already disconnected"}
    assert bench.calls == ["close"]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda m: m.scan_devices("drv_x"), error("Driver drv_x not found", "unknown_driver")),
        (
            lambda m: m.initialize_device("drv_x", device()),
            error("Driver drv_x not found", "unknown_driver"),
        ),
        (
            lambda m: m.execute_command("drv_x", "go"),
            error("Driver drv_x not found", "unknown_driver"),
        ),
        (
            lambda m: m.get_supported_commands("drv_x"),
            error("Driver drv_x not found", "unknown_driver"),
        ),
        (lambda m: m.get_device_state("drv_x"), error("Driver drv_x not found", "unknown_driver")),
        (lambda m: m.enable_driver("drv_x"), error("Driver drv_x not found", "unknown_driver")),
        (lambda m: m.initialize_device(DRV, None), error("Device not specified", "bad_args")),
        (lambda m: m.connect_device(DRV, ""), error("Device not specified", "bad_args")),
        (lambda m: m.close_device(DRV, "gone"), error("Device gone not found", "unknown_device")),
        (lambda m: m.reset_device(DRV, "gone"), error("Device gone not found", "unknown_device")),
        (lambda m: m.connect_device(DRV, "gone"), error("Device gone not found", "unknown_device")),
        (lambda m: m.execute_command(DRV, "", "a"), error("Command not specified", "bad_args")),
        (
            lambda m: m.execute_command(DRV, "go", "gone"),
            error("Device gone not found", "unknown_device"),
        ),
        (
            lambda m: m.initialize_device(DRV, device("new")),
            error(
                "Cannot perform initialize in current state unknown: scan for the device first",
                "bad_state",
            ),
        ),
    ],
)
def test_refusals_word_for_word(bench: Bench, call: Any, expected: dict[str, str]) -> None:
    assert call(bench.manager) == expected


@pytest.mark.parametrize(
    ("hook", "operation", "message"),
    [
        ("initialize", "initialize_device", "Initialization failed"),
        ("connect", "connect_device", "Connection failed"),
        ("reset", "reset_device", "Reset failed"),
        ("close", "close_device", "Close failed"),
    ],
)
@pytest.mark.parametrize(("fault", "text"), [(False, ""), (OSError("gone"), ": OSError: gone")])
def test_a_failed_operation_leads_to_error(
    bench: Bench, hook: str, operation: str, message: str, fault: Any, text: str
) -> None:
    bench.manager.scan_devices(DRV)
    if hook in ("reset", "close"):
        bench.connected()
    bench.does[hook] = fault
    assert getattr(bench.manager, operation)(DRV, "a") == error(message + text, "driver_error")
    assert bench.state() is DeviceState.ERROR


def test_out_of_error_leads_reset_and_then_initialize(bench: Bench) -> None:
    manager = bench.connected().manager
    bench.does["command"] = OSError("gone")
    assert manager.execute_command(DRV, "go", "a") == error("OSError: gone", "driver_error")
    assert bench.state() is DeviceState.ERROR
    refused = manager.initialize_device(DRV, "a")
    assert refused["message"].startswith("Cannot perform initialize in current state error: reset")
    assert manager.connect_device(DRV, "a")["message"].startswith(
        "Cannot connect device in state error"
    )
    assert refused["code"] == "bad_state"
    assert manager.reset_device(DRV, "a")["status"] == "success"
    assert manager.initialize_device(DRV, "a")["status"] == "success"
    assert bench.state() is DeviceState.INITIALIZED


@pytest.mark.parametrize("fault", [ValueError("no"), TimeoutError("no"), CommandFailed("no")])
def test_a_command_that_fails_alone_leaves_the_device_connected(
    bench: Bench, fault: Exception
) -> None:
    bench.connected()
    bench.does["command"] = fault
    assert bench.manager.execute_command(DRV, "go", "a") == error("no", "driver_error")
    assert bench.state() is DeviceState.CONNECTED


def test_a_command_needs_a_connected_device(bench: Bench) -> None:
    bench.manager.scan_devices(DRV)
    refused = bench.manager.execute_command(DRV, "go", "a")
    assert refused["code"] == "bad_state"
    assert "this one is discovered; connect it first" in refused["message"]


def test_a_scan_that_fails_is_an_error_with_its_text(bench: Bench) -> None:
    bench.does["scan"] = OSError("no bus")
    assert bench.manager.scan_devices(DRV) == error("Scan failed: OSError: no bus", "driver_error")


def test_the_device_is_active_while_a_command_runs(bench: Bench) -> None:
    bench.connected()
    bench.does["command"] = lambda *_: str(bench.state())
    assert bench.manager.execute_command(DRV, "go", "a")["result"] == "active"


def test_args_come_as_a_dict_and_as_keywords(bench: Bench) -> None:
    bench.connected()
    bench.does["command"] = lambda dev, command, args: args
    execute: Callable[..., dict[str, Any]] = bench.manager.execute_command
    assert execute(DRV, "go", "a", args={"x": 1}, y=2)["result"] == {"x": 1, "y": 2}
    assert execute(DRV, "go", device_id="a", id="0x1")["result"] == {"id": "0x1"}
    assert execute(DRV, "go", "a", args=[1])["code"] == "bad_args"


def test_results_are_json_in_process_too(bench: Bench) -> None:
    bench.connected()
    bench.does["command"] = b"\x01"
    assert bench.manager.execute_command(DRV, "go", "a")["result"] == "01"


def test_without_a_device_id_there_must_be_one_device(bench: Bench) -> None:
    manager = bench.manager
    assert (
        manager.execute_command(DRV, "go")["message"]
        == f"Device not specified; {DRV} has: none; scan first"
    )
    manager.scan_devices(DRV)
    assert manager.execute_command(DRV, "go")["message"] == f"Device not specified; {DRV} has: a, b"
    bench.does["scan"] = [device("a")]
    manager.scan_devices(DRV)
    bench.connected()
    assert manager.execute_command(DRV, "go")["status"] == "success"


@pytest.mark.parametrize("given", ["a", device("a"), device("a").to_dict()])
def test_a_device_may_be_named_in_three_ways(
    bench: Bench, given: Device | str | Mapping[str, Any]
) -> None:
    assert bench.manager.connect_device(DRV, given)["status"] == "success"
    assert bench.calls == ["scan", "initialize", "connect"], (
        "auto-discovery and auto-initialization"
    )


def test_a_thing_that_is_no_device_is_refused(bench: Bench) -> None:
    things: list[Any] = [5, {"name": "x"}]
    for thing in things:
        assert bench.manager.connect_device(DRV, thing)["code"] == "bad_args"


def test_all_devices_at_once(bench: Bench) -> None:
    results = bench.manager.initialize_all_devices()
    assert results == {
        DRV: {
            "status": "success",
            "devices": [
                {"device": device(i), "status": "success", "message": "Device initialized"}
                for i in ("a", "b")
            ],
        }
    }
    closed = {"status": "success", "message": "Device closed"}
    assert bench.manager.cleanup_all_devices() == {
        DRV: {"status": "success", "devices": {"a": closed, "b": closed}}
    }
    assert bench.manager.cleanup_all_devices() == {}


def test_all_devices_at_once_with_faults(bench: Bench) -> None:
    bench.does["initialize"] = False
    results = bench.manager.initialize_all_devices()[DRV]
    assert results["status"] == "error"
    assert [d["message"] for d in results["devices"]] == ["Initialization failed"] * 2
    bench.does["scan"] = OSError("no bus")
    assert bench.manager.initialize_all_devices()[DRV] == {
        **error("Scan failed: OSError: no bus", "driver_error"),
        "devices": [],
    }
    bench.does["close"] = False
    cleaned = bench.manager.cleanup_all_devices()[DRV]
    assert cleaned["status"] == "error"
    assert cleaned["devices"]["a"] == error("Close failed", "driver_error")


def test_cleanup_closes_only_what_this_manager_touched(bench: Bench) -> None:
    bench.connected("a")
    other = DeviceDriverManager(bench.backend)
    assert other.cleanup_all_devices() == {}
    other.connect_device(DRV, "b")
    assert list(other.cleanup_all_devices()[DRV]["devices"]) == ["b"]
    assert bench.state("a") is DeviceState.CONNECTED
    other.close()


def test_drivers_commands_and_states_are_listed(bench: Bench) -> None:
    manager = bench.manager
    assert manager.list_drivers() == {"status": "success", "drivers": [DRV], "disabled": []}
    commands = manager.get_supported_commands(DRV)["commands"]
    assert commands["go"] == {"description": "do it", "parameters": {"type": "object"}}
    assert manager.get_device_state(DRV) == {"status": "success", "devices": {}}
    bench.connected("a")
    assert manager.get_device_state(DRV, "a") == {
        "status": "success",
        "state": "connected",
        "devices": {"a": "connected", "b": "discovered"},
    }
    assert manager.get_device_state(DRV, "gone") == error("Device gone not found", "unknown_device")


def test_a_disabled_driver_is_refused_but_its_devices_can_be_closed(bench: Bench) -> None:
    manager = bench.connected().manager
    assert manager.disable_driver(DRV)["status"] == "success"
    for refused in (manager.scan_devices(DRV), manager.execute_command(DRV, "go", "a")):
        assert refused == error(f"Driver {DRV} is disabled", "denied")
    assert manager.initialize_all_devices() == {}
    assert manager.list_drivers()["disabled"] == [DRV]
    assert manager.close_device(DRV, "a")["status"] == "success"
    manager.enable_driver(DRV)
    assert manager.scan_devices(DRV)["status"] == "success"


# --- instances, streams, scans -------------------------------------------------------------------------


def test_each_device_has_its_own_instance(bench: Bench) -> None:
    """A second device must not hijack the first one's stream."""
    bench.connected("a").connected("b")
    for device_id in ("a", "b"):
        assert bench.manager.execute_command(DRV, "start", device_id)["status"] == "success"
    bench.sink.wait_for(lambda s: {d.channel for d in s.received} == {"a", "b"})
    bench.manager.close_device(DRV, "a")
    seen = len(bench.sink.received)
    bench.sink.wait_for(lambda s: len(s.received) > seen)
    assert bench.sink.received[-1].channel == "b"
    assert bench.state("b") is DeviceState.CONNECTED


def test_a_dead_stream_leads_to_error(bench: Bench) -> None:
    threads: list[threading.Thread] = []

    def die() -> None:
        threads.append(threading.current_thread())
        raise OSError("gone")

    bench.connected()
    bench.does["loop"] = die
    bench.manager.execute_command(DRV, "start", "a")
    bench.sink.wait_for(lambda s: ("closed", "a") in s.events)
    threads[0].join(DEADLINE)
    assert bench.state() is DeviceState.ERROR
    assert bench.manager.execute_command(DRV, "go", "a")["code"] == "bad_state"


def test_a_stream_that_dies_within_connect_makes_connect_fail(bench: Bench) -> None:
    threads: list[threading.Thread] = []
    started = threading.Event()

    def die() -> None:
        threads.append(threading.current_thread())
        started.set()
        raise OSError("gone")

    def connect_and_die(dev: Device) -> bool:
        bench.instances[-1].start_streaming(dev)
        assert started.wait(DEADLINE)
        threads[0].join(DEADLINE)
        return True

    bench.does |= {"connect": connect_and_die, "loop": die}
    assert "OSError: gone" in bench.manager.connect_device(DRV, "a")["message"]
    assert bench.state() is DeviceState.ERROR


def test_a_rescan_moves_no_device_down_and_takes_unplugged_ones_away(bench: Bench) -> None:
    manager = bench.connected("a").manager
    bench.does["scan"] = []
    assert manager.scan_devices(DRV) == {"status": "success", "devices": []}
    assert bench.state("a") is DeviceState.CONNECTED, "an open device may hide from a scan"
    assert bench.state("b") is DeviceState.UNKNOWN
    bench.does["scan"] = [device("a")]
    manager.scan_devices(DRV)
    assert bench.state("a") is DeviceState.CONNECTED
    manager.close_device(DRV, "a")
    bench.does["scan"] = []
    manager.scan_devices(DRV)
    assert manager.device_states == {}


def test_an_unplugged_device_in_error_lets_go_of_its_driver(bench: Bench) -> None:
    bench.connected("a")
    bench.does |= {"command": OSError("gone"), "scan": []}
    bench.manager.execute_command(DRV, "go", "a")
    bench.manager.scan_devices(DRV)
    assert bench.calls[-1] == "close"
    assert bench.state("a") is DeviceState.UNKNOWN


def test_a_discovered_device_is_closed_without_a_driver(bench: Bench) -> None:
    bench.manager.scan_devices(DRV)
    assert bench.manager.close_device(DRV, "a") == {"status": "success", "message": "Device closed"}
    assert bench.calls == ["scan"]


def test_after_close_a_device_gets_a_fresh_instance(bench: Bench) -> None:
    bench.connected()
    bench.manager.close_device(DRV, "a")
    bench.connected()
    assert len(bench.instances) == 3, "one to scan, and one each time"


def test_a_constructor_that_fails_leads_to_error_and_can_be_tried_again(bench: Bench) -> None:
    bench.manager.scan_devices(DRV)
    bench.does["init"] = RuntimeError("no licence")
    assert "RuntimeError: no licence" in bench.manager.initialize_device(DRV, "a")["message"]
    assert bench.state() is DeviceState.ERROR
    del bench.does["init"]
    bench.manager.reset_device(DRV, "a")
    assert bench.manager.initialize_device(DRV, "a")["status"] == "success"


# --- locks, lifetimes, the guide's own names ---------------------------------------------------------------


def test_calls_on_one_device_wait_for_each_other_and_on_two_do_not(bench: Bench) -> None:
    bench.connected("a").connected("b")
    inside, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(dev: Device, *_: Any) -> str:
        order.append(dev.device_id)
        if dev.device_id == "a" and len(order) == 1:
            inside.set()
            go_on.wait(DEADLINE)
        return "done"

    bench.does["command"] = slow
    calls = [
        threading.Thread(target=bench.manager.execute_command, args=(DRV, "go", "a"))
        for _ in range(2)
    ]
    calls[0].start()
    assert inside.wait(DEADLINE)
    calls[1].start()
    assert bench.manager.execute_command(DRV, "go", "b")["result"] == "done"
    assert order == ["a", "b"]
    go_on.set()
    for call in calls:
        call.join(DEADLINE)
    assert order == ["a", "b", "a"]


def test_a_device_that_stays_busy_is_refused_at_the_deadline() -> None:
    bench = Bench(lock_timeout=0.01)
    bench.connected()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with bench.manager._get_device_lock(bench.manager.get_device_key(DRV, "a")):
            held.set()
            go_on.wait(DEADLINE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(DEADLINE)
    assert bench.manager.execute_command(DRV, "go", "a")["code"] == "busy"
    go_on.set()
    holder.join(DEADLINE)
    bench.manager.close()


def test_the_guides_snippet_with_the_device_lock(bench: Bench) -> None:
    manager = bench.manager
    device_key = manager.get_device_key(DRV, device("a"))
    with manager._get_device_lock(device_key):
        current_state = manager.device_states.get(device_key, DeviceState.UNKNOWN)
        assert current_state is DeviceState.UNKNOWN
        assert manager.connect_device(DRV, "a")["status"] == "success", "the lock is reentrant"
    assert manager.device_states.get(device_key) is DeviceState.CONNECTED
    assert manager._state_transitions is lifecycle.TRANSITIONS
    assert manager.state_hierarchy is lifecycle.HIERARCHY


def test_a_forgotten_manager_closes_its_devices() -> None:
    bench = Bench()
    bench.connected()
    bench.manager.execute_command(DRV, "start", "a")
    del bench.manager
    gc.collect()
    assert bench.calls[-1] == "close"


def test_a_manager_closes_with_its_context_and_survives_a_close_that_fails() -> None:
    bench = Bench()
    with bench.manager:
        bench.connected()
        bench.does["close"] = OSError("stuck")
    assert bench.calls[-1] == "close"
    assert bench.manager.device_states == {}


class TwoHosts(LocalBackend):
    """A backend whose device is known on two hosts, as on a bus."""

    def __init__(self) -> None:
        super().__init__([PluginFile(DRV, "fake", Path("drv_fake.py"))])

    def devices(self, driver: str) -> list[Device]:
        return [Device("a", "A", "CAN", host=host) for host in ("bench2", "bench1")]


def test_an_id_that_two_hosts_have_is_an_error_that_lists_them() -> None:
    with DeviceDriverManager(TwoHosts()) as manager:
        for refused in (manager.execute_command(DRV, "go", "a"), manager.connect_device(DRV, "a")):
            assert refused["code"] == "unknown_device"
            assert "several hosts: bench1, bench2" in refused["message"]


class Broken(LocalBackend):
    def drivers(self) -> list[str]:
        raise RuntimeError("a bug")


def test_nothing_is_raised_whatever_the_backend_does() -> None:
    with DeviceDriverManager(Broken([])) as manager:
        assert manager.scan_devices(DRV) == error("RuntimeError: a bug", "internal")
        assert manager.initialize_all_devices() == {}


# --- the environment -----------------------------------------------------------------------------------

PLUGIN = """
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.models.Device_Model import Device
class Configured(BaseDeviceDriver):
    def _scan_impl(self): return [Device(i, i, "Custom") for i in self.info["ids"]]
    def _initialize_impl(self, device): return True
    def _connect_impl(self, device): return True
    def _command_impl(self, device, command, args=None): return None
    def _reset_impl(self, device): return True
    def _close_impl(self, device): return True
"""


def test_the_environment_names_plugins_and_configures_drivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envfam").mkdir()
    (tmp_path / "envfam" / "drv_configured.py").write_text(PLUGIN)
    monkeypatch.delenv("SAT_BROKER_URL", raising=False)
    monkeypatch.setenv("SAT_PLUGINS", str(tmp_path))
    monkeypatch.setenv("SAT_DRIVERS", '{"drv_configured": {"ids": ["x", "y"]}}')
    with DeviceDriverManager() as manager:
        assert [d.device_id for d in manager.scan_devices("drv_configured")["devices"]] == [
            "x",
            "y",
        ]


def test_a_plugin_that_cannot_be_loaded_is_an_error_of_its_driver_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envbad").mkdir()
    (tmp_path / "envbad" / "drv_bad.py").write_text("raise SystemExit")
    with DeviceDriverManager(backend_from({"SAT_PLUGINS": str(tmp_path)})) as manager:
        assert "drv_bad" in manager.list_drivers()["drivers"]
        refused = manager.scan_devices("drv_bad")
        assert refused["code"] == "driver_error"
        assert "drv_bad.py: cannot be imported: SystemExit" in refused["message"]


@pytest.mark.parametrize("text", ["{", "[]", '{"drv_x": 1}'])
def test_a_malformed_configuration_says_what_it_takes(text: str) -> None:
    with pytest.raises(ConfigError, match="SAT_DRIVERS takes a JSON object of objects"):
        backend_from({"SAT_DRIVERS": text})


def test_a_broker_url_chooses_the_bus_without_connecting_yet() -> None:
    backend = backend_from({"SAT_BROKER_URL": "mqtt://127.0.0.1:1"})
    assert type(backend).__name__ == "BusBackend"
    backend.shutdown()
