"""What ``sat watch DEVICE`` prints of frames in either form, and of those that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_cli.commands.watch import _frames
from sat_client import Rack
from tests.unit.client_site import SITE, FakeSite


@pytest.fixture
def site() -> Iterator[FakeSite]:
    site = FakeSite(MemoryBroker())
    site.device("ecu")
    site.born(devices=1)
    yield site
    site.close()


def lines(site: FakeSite, count: int, *, json: bool) -> list[Any]:
    """The first `count` lines about a stream that loses frames in the host and on the way."""
    with Rack(site=SITE, bus=MemoryBus(site.broker, "watcher")) as rack:
        found = _frames(rack, "ecu", "can", json, None)
        assert next(found) is None  # it listens from here on
        site.packed_batch(0, 1)
        site.packed_batch(5, 1, kernel=3)
        site.packed_batch(6, 1, kernel=3, frames_full=1)
        said = [line for line in (next(found) for _ in range(count)) if line is not None]
        found.close()  # type: ignore[attr-defined]
    return said


def test_as_json_a_loss_is_an_object_between_the_frames(site: FakeSite) -> None:
    said = lines(site, 5, json=True)
    assert [line["seq"] for line in said if "seq" in line] == [0, 5, 6]
    assert [line for line in said if "missed" in line] == [
        {"device": "ecu", "missed": 4, "dropped": {"kernel": 3}, "first": 1, "last": 4,
         "causes": {"transport": 1, "kernel": 3}},
        {"device": "ecu", "missed": 0, "dropped": {"frames_full": 1}, "explained": {"frames_full": 1}},
    ]  # fmt: skip


def test_as_text_a_loss_is_told_where_it_is_and_explained_when_the_host_tells(
    site: FakeSite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [line.split()[2] for line in lines(site, 3, json=False)] == ["000", "005", "006"]
    told = " ".join(capsys.readouterr().err.split())
    assert "4 frames are missing here, 1 to 4: kernel 3, transport 1" in told
    assert "1 of the frames that are missing above were lost in the host: frames_full" in told
