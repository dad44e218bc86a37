"""DeviceDriverManager over the bus: the same dicts as in process, by way of orchestrator and
host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_client import Rack
from sat_client.backend import BusBackend
from sat_toolkit import errors
from sat_toolkit.core.backend import Backend
from sat_toolkit.core.device_manager import DeviceDriverManager
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.models.Device_Model import SocketCANDevice
from tests.unit.client_site import DRIVER, SITE, FakeSite

_REACHES = {
    "initialize": "initialized",
    "connect": "connected",
    "reset": "disconnected",
    "close": "disconnected",
}


class Services:
    """What host and orchestrator answer: each device reaches what is asked of it."""

    def __init__(self, *sites: FakeSite) -> None:
        self.sites = {site.host: site for site in sites}
        self.states: dict[str, str] = {}

    def add(self, host: str, device: str, state: str) -> None:
        self.sites[host].device(device, state)
        self.states[f"{host}/{device}"] = state

    def __call__(self, match: topics.Match, request: m.Request) -> Any:
        if match.topic is topics.COMMAND:
            return f"{match.levels['command']} {request.args}"
        if match.levels["op"] == "scan":
            found = [name.split("/") for name in self.states]
            devices = [
                {"host": h, "driver": DRIVER, "device": d, "state": "discovered", "new": False}
                for h, d in found
            ]
            return {"devices": devices, "errors": {}}
        host = request.args.get("host", next(iter(self.sites)))
        name, target = f"{host}/{request.args['device']}", _REACHES[match.levels["op"]]
        changed = self.states[name] != target
        self.states[name] = target
        self.sites[host].status(request.args["device"], target)
        return m.ok(
            request, host=host, boot="", result={"changed": changed}, state=DeviceState(target)
        )


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def site(broker: MemoryBroker) -> Iterator[FakeSite]:
    site = FakeSite(broker)
    site.orchestrator()
    site.born(devices=1)
    yield site
    site.close()


@pytest.fixture
def services(site: FakeSite) -> Services:
    services = Services(site)
    services.add(site.host, "ecu", "discovered")
    site.answer = services
    return services


@pytest.fixture
def connect(broker: MemoryBroker) -> Callable[[], Backend]:
    return lambda: BusBackend(
        rack=lambda: Rack(site=SITE, client="mgr", bus=MemoryBus(broker, "mgr"))
    )


@pytest.fixture
def manager(services: Services, connect: Callable[[], Backend]) -> Iterator[DeviceDriverManager]:
    with DeviceDriverManager(connect()) as manager:
        yield manager


def test_the_guides_way_from_scan_to_clean_up(manager: DeviceDriverManager) -> None:
    scanned = manager.scan_devices(DRIVER)
    (device,) = scanned["devices"]
    assert scanned["status"] == "success"
    assert manager.initialize_device(DRIVER, device) == {
        "status": "success",
        "message": "Device initialized",
    }
    assert manager.connect_device(DRIVER, device) == {
        "status": "success",
        "message": "Device connected",
    }
    answer = manager.execute_command(DRIVER, "start", device_id=device.device_id, rate=5)
    assert answer == {"status": "success", "result": "start {'rate': 5}"}
    assert manager.get_device_state(DRIVER, "ecu")["state"] == "connected"
    cleaned = manager.cleanup_all_devices()
    assert cleaned[DRIVER]["devices"]["ecu"] == {"status": "success", "message": "Device closed"}


def test_a_device_carries_its_host_and_its_type(manager: DeviceDriverManager) -> None:
    (device,) = manager.scan_devices(DRIVER)["devices"]
    assert isinstance(device, SocketCANDevice)
    assert (device.device_id, device.host, device.interface) == ("ecu", "bench-can", "ecu")


def test_what_policy_has_connected_already_is_a_success(
    manager: DeviceDriverManager, services: Services, site: FakeSite
) -> None:
    services.add(site.host, "ecu", "connected")
    assert manager.connect_device(DRIVER, "ecu") == {
        "status": "success",
        "message": "Device already connected",
    }


def test_lifecycle_goes_to_the_orchestrator_and_commands_to_the_host(
    manager: DeviceDriverManager, site: FakeSite
) -> None:
    manager.connect_device(DRIVER, "ecu")
    manager.execute_command(DRIVER, "status", "ecu")
    assert [topic.split("/")[3] for topic, _ in site.asked] == ["orch", "dev"]


def test_clean_up_leaves_other_peoples_devices_alone(
    manager: DeviceDriverManager, services: Services, site: FakeSite
) -> None:
    services.add(site.host, "theirs", "connected")
    manager.connect_device(DRIVER, "ecu")
    assert list(manager.cleanup_all_devices()[DRIVER]["devices"]) == ["ecu"]
    assert services.states == {"bench-can/ecu": "disconnected", "bench-can/theirs": "connected"}


def test_an_id_that_two_hosts_have_is_an_error_that_lists_them(
    manager: DeviceDriverManager, services: Services, broker: MemoryBroker
) -> None:
    def silent(match: topics.Match, request: m.Request) -> Any:
        raise FakeSite.Silence

    other = FakeSite(broker, "other-can")
    other.answer = silent  # the orchestrator is played by the first site
    try:
        other.born(devices=1)
        services.sites["other-can"] = other
        services.add("other-can", "ecu", "discovered")
        devices = manager.scan_devices(DRIVER)["devices"]
        refused = manager.connect_device(DRIVER, "ecu")
        assert refused["status"] == "error"
        assert "bench-can" in refused["message"]
        assert "other-can" in refused["message"]
        assert manager.connect_device(DRIVER, devices[1])["status"] == "success"
        assert services.states == {"bench-can/ecu": "discovered", "other-can/ecu": "connected"}
    finally:
        other.close()


def test_a_refusal_becomes_a_dict_with_its_code(
    manager: DeviceDriverManager, site: FakeSite
) -> None:
    def refuse(match: topics.Match, request: m.Request) -> Any:
        raise errors.BadState(
            "Cannot perform initialize in current state error: reset the device first"
        )

    site.answer = refuse
    answer = manager.initialize_device(DRIVER, "ecu")
    assert answer["status"] == "error"
    assert answer["code"] == "bad_state"
    assert "reset the device first" in answer["message"]


def test_a_scan_that_failed_is_an_error(manager: DeviceDriverManager, site: FakeSite) -> None:
    site.answer = lambda match, request: {"devices": [], "errors": {DRIVER: "no adapter answers"}}
    assert manager.scan_devices(DRIVER)["message"] == "no adapter answers"


def test_an_unknown_driver_and_an_unknown_device(manager: DeviceDriverManager) -> None:
    assert manager.scan_devices("drv_nothing")["message"] == "Driver drv_nothing not found"
    assert manager.execute_command(DRIVER, "start", "abs")["message"] == "Device abs not found"


def test_commands_come_from_what_devices_declare(manager: DeviceDriverManager) -> None:
    assert list(manager.get_supported_commands(DRIVER)["commands"]) == ["send"]


def test_nothing_connects_before_the_first_call(
    connect: Callable[[], Backend], broker: MemoryBroker
) -> None:
    broker.stop()
    manager = DeviceDriverManager(connect())
    manager.close()
    assert manager.scan_devices(DRIVER)["code"] == "host_lost"


def test_a_lost_hosts_devices_are_unknown(manager: DeviceDriverManager, site: FakeSite) -> None:
    manager.scan_devices(DRIVER)
    site.host_state("lost")
    rack = manager._backend._rack()  # type: ignore[attr-defined]
    rack.wait_until(lambda view: not view.hosts["bench-can"].alive, 5.0, lambda: "")
    assert manager.get_device_state(DRIVER)["devices"] == {}
