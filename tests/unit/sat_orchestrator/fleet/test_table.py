"""Hosts and rows as data: what may be asked of a host, and what is desired of a device."""

from __future__ import annotations

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Birth, Desired, DriverInfo, Manifest
from sat_orchestrator.fleet.table import KnownHost, Presence, Row

BIRTH = Birth(
    boot="b", family="can", drivers=[DriverInfo(name="drv_x"), DriverInfo(name="drv_y")],
    manifest=Manifest(count=0, rev=0), epoch_seen=0, version="0", clock=0.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("presence", "word", "birth", "askable", "ready"),
    [
        (Presence.ALIVE, "ready", BIRTH, True, True),
        (Presence.ALIVE, "", BIRTH, True, True),
        (Presence.AWAITED, "ready", BIRTH, True, False),
        (Presence.ALIVE, "init", BIRTH, False, False),
        (Presence.ALIVE, "draining", BIRTH, False, False),
        (Presence.GONE, "ready", BIRTH, False, False),
        (Presence.ALIVE, "ready", None, False, False),
    ],
)
def test_when_a_host_may_be_asked(
    presence: Presence, word: str, birth: Birth | None, askable: bool, ready: bool
) -> None:
    host = KnownHost("bench", 0.0, birth=birth, word=word, presence=presence)
    assert (host.askable, host.ready) == (askable, ready)


def test_its_drivers_are_those_of_its_birth() -> None:
    assert KnownHost("bench", 0.0).drivers == frozenset()
    assert KnownHost("bench", 0.0, birth=BIRTH).drivers == {"drv_x", "drv_y"}


def test_a_client_outweighs_the_rule() -> None:
    row = Row(Key("bench", "drv_x", "can0"))
    assert (row.desired, row.source) == (None, "")
    row.policy, row.rule = Desired(level="connected"), "all"
    assert (row.desired, row.source) == (row.policy, "all")
    row.explicit = Desired(level="disconnected")
    assert (row.desired, row.source) == (row.explicit, "explicit")
