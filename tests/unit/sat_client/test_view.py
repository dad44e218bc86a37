"""What a client believes of the retained topics, and how it resolves names."""

from __future__ import annotations

import pytest

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_bus.contract.device_key import Key
from sat_client.view import SiteView
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadArgs, UnknownDevice

ECU = Key("bench", "drv_socketcan", "ecu")


def birth(boot: str = "2-b", count: int = 1) -> m.Birth:
    manifest = m.Manifest(count=count, rev=1)
    return m.Birth(
        boot=boot, family="can", drivers=[], manifest=manifest, epoch_seen=0, version="1", clock=0.0
    )


def put(view: SiteView, topic: topics.Topic, message: m.Message | None, **levels: str) -> str:
    name = topic.build("lab", **levels)
    view.apply(name, b"" if message is None else message.encode())
    return name


def put_device(
    view: SiteView, key: Key = ECU, state: str = "connected", quality: m.Quality = "good"
) -> None:
    levels = {"host": key.host, "driver": key.driver, "device": key.device}
    put(view, topics.DEVICE_META, m.Meta(name=key.device, device_type="CAN"), **levels)
    fields = {
        "previous": DeviceState.UNKNOWN,
        "since": 0.0,
        "rev": 1,
        "boot": "2-b",
        "by": "host",
        "quality": quality,
    }
    put(view, topics.DEVICE_STATUS, m.Status(state=DeviceState(state), **fields), **levels)


@pytest.fixture
def view() -> SiteView:
    view = SiteView("lab")
    put(view, topics.HOST_BIRTH, birth(), host="bench")
    put(view, topics.HOST_STATE, m.HostState(state="ready", boot="2-b"), host="bench")
    put_device(view)
    return view


def test_a_device_has_the_state_its_host_says(view: SiteView) -> None:
    assert view.state(ECU) is DeviceState.CONNECTED
    assert not view.lost(ECU)


@pytest.mark.parametrize("state", ["offline", "lost"])
def test_a_device_of_a_host_that_is_gone_is_unknown(view: SiteView, state: str) -> None:
    put(
        view,
        topics.HOST_STATE,
        m.HostState.model_validate({"state": state, "boot": "2-b"}),
        host="bench",
    )
    assert view.state(ECU) is DeviceState.UNKNOWN
    assert view.lost(ECU)


def test_the_will_of_an_older_boot_is_ignored(view: SiteView) -> None:
    put(view, topics.HOST_STATE, m.HostState(state="offline", boot="1-a"), host="bench")
    assert view.hosts["bench"].alive
    assert view.state(ECU) is DeviceState.CONNECTED


def test_quality_lost_makes_the_state_unknown(view: SiteView) -> None:
    put_device(view, state="connected", quality="lost")
    assert view.state(ECU) is DeviceState.UNKNOWN


@pytest.mark.parametrize("name", ["ecu", "drv_socketcan/ecu", "bench/drv_socketcan/ecu"])
def test_a_device_is_found_by_each_form_of_its_name(view: SiteView, name: str) -> None:
    assert view.find(name) == ECU


def test_an_id_with_a_slash_is_found(view: SiteView) -> None:
    port = Key("bench", "drv_serial", "/dev/ttyUSB0")
    put_device(view, port)
    assert view.find("/dev/ttyUSB0") == port
    assert view.find("drv_serial//dev/ttyUSB0") == port


def test_an_unknown_name_lists_what_there_is(view: SiteView) -> None:
    with pytest.raises(UnknownDevice, match="bench/drv_socketcan/ecu"):
        view.find("abs")


def test_an_ambiguous_name_lists_the_candidates(view: SiteView) -> None:
    put_device(view, Key("other", "drv_socketcan", "ecu"))
    with pytest.raises(BadArgs, match="bench/drv_socketcan/ecu, other/drv_socketcan/ecu"):
        view.find("ecu")
    assert view.find("ecu", host="other").host == "other"


def test_clearing_its_topics_removes_a_device_and_a_host(view: SiteView) -> None:
    for topic in (topics.DEVICE_META, topics.DEVICE_STATUS):
        put(view, topic, None, host=ECU.host, driver=ECU.driver, device=ECU.device)
    for topic in (topics.HOST_BIRTH, topics.HOST_STATE):
        put(view, topic, None, host="bench")
    assert view.devices == {}
    assert view.hosts == {}


def test_after_a_reconnect_only_what_was_told_again_stays(view: SiteView) -> None:
    view.begin_sync()
    put(view, topics.HOST_STATE, m.HostState(state="ready", boot="2-b"), host="bench")
    assert ECU in view.devices
    view.end_sync()
    assert list(view.hosts) == ["bench"]
    assert view.devices == {}


def test_it_is_complete_when_the_manifest_is_fulfilled() -> None:
    view = SiteView("lab")
    assert view.complete()
    put(view, topics.HOST_BIRTH, birth(count=1), host="bench")
    put(view, topics.HOST_STATE, m.HostState(state="ready", boot="2-b"), host="bench")
    assert not view.complete()
    put_device(view)
    assert view.complete()


def test_garbage_is_counted_and_changes_nothing(view: SiteView) -> None:
    topic = topics.DEVICE_STATUS.build("lab", host=ECU.host, driver=ECU.driver, device=ECU.device)
    view.apply(topic, b'{"state": "flying"}')
    assert view.malformed == 1
    assert view.state(ECU) is DeviceState.CONNECTED
