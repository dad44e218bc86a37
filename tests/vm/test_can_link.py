"""The one step of the compose file that takes a privilege: bringing CAN links up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm.machine import Machine

BRING_UP = "python3 /tree/deploy/can_link.py"


def link(machine: Machine, name: str) -> dict[str, Any]:
    (found,) = json.loads(machine.check("ip", "-details", "-json", "link", "show", name))
    return dict(found)


def test_a_controller_comes_up_with_the_bitrate_and_is_then_left_alone(machine: Machine) -> None:
    machine.shell("modprobe kvaser_pci; ip link set can0 down")
    assert "can0 is up with 250000 bit/s" in machine.shell(f"{BRING_UP} can0 250000")
    up = link(machine, "can0")
    assert "UP" in up["flags"]
    assert up["linkinfo"]["info_data"]["bittiming"]["bitrate"] == 250_000
    assert "can0 was up already" in machine.shell(f"{BRING_UP} can0 500000")
    assert link(machine, "can0")["linkinfo"]["info_data"]["bittiming"]["bitrate"] == 250_000
    machine.shell("ip link set can0 down")


def test_a_virtual_link_comes_up_without_one(machine: Machine) -> None:
    machine.shell("ip link add vcan7 type vcan")
    assert "vcan7 is up (vcan)" in machine.shell(f"{BRING_UP} vcan7 500000")
    assert "UP" in link(machine, "vcan7")["flags"]
    machine.shell("ip link delete vcan7")


@pytest.mark.parametrize(
    ("names", "said"), [("can9", "no such link"), ("can9,vcan8", "can_link: vcan8 is up")]
)
def test_what_is_missing_is_said_and_the_others_come_up(
    machine: Machine, names: str, said: str
) -> None:
    machine.shell("ip link add vcan8 type vcan")
    done = machine.run("sh", "-c", f"{BRING_UP} {names} 500000 2>&1")
    machine.shell("ip link delete vcan8")
    assert done.status == 1
    assert said in done.stdout
