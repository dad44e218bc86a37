"""The kernel's links, from netlink messages as the kernel encodes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from plugins.devices.can.links import (
    CanLink,
    LinkQuery,
    kernel_links,
    parse_links,
    restart_controller,
    restart_request,
)


def link_message(
    name: str,
    kind: str | None,
    *,
    arp: int = 280,
    up: bool = True,
    mtu: int = 16,
    data: Any = None,
    stats: Any = None,
) -> Any:
    info: list[Any] = [["IFLA_INFO_KIND", kind]] if kind else []
    if data:
        info.append(["IFLA_INFO_DATA", {"attrs": data}])
    message = ifinfmsg()
    message["ifi_type"] = arp
    message["flags"] = 1 if up else 0
    message["attrs"] = [["IFLA_IFNAME", name], ["IFLA_MTU", mtu]]
    if stats:
        zeros = dict.fromkeys((name for name, _ in ifinfmsg.ifstats64.fields), 0)
        message["attrs"].append(["IFLA_STATS64", zeros | stats])
    if info:
        message["attrs"].append(["IFLA_LINKINFO", {"attrs": info}])
    message.encode()
    decoded = ifinfmsg(message.data)
    decoded.decode()
    return decoded


CONTROLLER = [
    ["IFLA_CAN_BITTIMING", {"bitrate": 500_000}],
    ["IFLA_CAN_STATE", 0],
    ["IFLA_CAN_BERR_COUNTER", {"txerr": 3, "rxerr": 7}],
]


def test_a_controller_with_its_bitrate_state_and_counters(tmp_path: Path) -> None:
    (link,) = parse_links([link_message("can0", "can", data=CONTROLLER)], tmp_path)
    assert link == CanLink(
        name="can0",
        kind="can",
        up=True,
        fd=False,
        hardware_id="can:can0",
        bitrate=500_000,
        controller="error-active",
        tx_errors=3,
        rx_errors=7,
    )


def test_only_can_links_are_listed_and_no_name_is_odd_enough_to_fail(tmp_path: Path) -> None:
    links = parse_links(
        [
            link_message("lo", None, arp=772),
            link_message("eth0", "veth", arp=1),
            link_message("vcan0", "vcan", mtu=72),
            link_message("bench", "vxcan", mtu=72, up=False),
            link_message("kein-zähler", "vcan", mtu=2060),
            link_message("adapter", None),
        ],
        tmp_path,
    )
    assert [(link.name, link.kind, link.up, link.fd) for link in links] == [
        ("adapter", "slcan", True, False),
        ("bench", "vxcan", False, True),
        ("kein-zähler", "vcan", True, True),
        ("vcan0", "vcan", True, True),
    ]


@pytest.mark.parametrize(
    ("kind", "data", "command"),
    [
        ("can", CONTROLLER, "ip link set x up type can bitrate 500000"),
        ("can", None, "ip link set x up type can bitrate 500000"),
        (
            "can",
            [["IFLA_CAN_BITTIMING", {"bitrate": 125_000}]],
            "ip link set x up type can bitrate 125000",
        ),
        ("vcan", None, "ip link set x up"),
    ],
)
def test_how_a_link_is_brought_up(kind: str, data: Any, command: str, tmp_path: Path) -> None:
    (link,) = parse_links([link_message("x", kind, up=False, data=data)], tmp_path)
    assert link.up_command == command


def test_the_hardware_id_is_the_place_in_the_machine_and_not_the_name(tmp_path: Path) -> None:
    card = tmp_path / "devices" / "pci0000:00" / "0000:00:04.0"
    card.mkdir(parents=True)
    for name, channel in (("can0", "0x0"), ("can1", "0x1")):
        folder = tmp_path / "class" / "net" / name
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(card)
        (folder / "dev_id").write_text(f"{channel}\n")
        (folder / "dev_port").write_text("0\n")
    links = parse_links([link_message("can0", "can"), link_message("can1", "can")], tmp_path)
    assert [link.hardware_id for link in links] == [
        "devices/pci0000:00/0000:00:04.0#0.0",
        "devices/pci0000:00/0000:00:04.0#0.1",
    ]


def test_the_kernel_of_this_machine_is_asked_without_a_privilege() -> None:
    # On a kernel without CAN both sides are empty.
    types = {
        folder.parent.name: folder.read_text().strip()
        for folder in Path("/sys/class/net").glob("*/type")
    }
    assert [link.name for link in kernel_links()] == sorted(
        name for name, arp in types.items() if arp == "280"
    )


def test_timings_restart_and_sums_of_a_link(tmp_path: Path) -> None:
    data = [
        ["IFLA_CAN_BITTIMING", {"bitrate": 500_000, "sample_point": 875}],
        ["IFLA_CAN_DATA_BITTIMING", {"bitrate": 2_000_000, "sample_point": 750}],
        ["IFLA_CAN_RESTART_MS", 100],
    ]
    (tmp_path / "class" / "net" / "can0" / "device").mkdir(parents=True)
    (tmp_path / "drivers" / "mcp251xfd").mkdir(parents=True)
    (tmp_path / "class" / "net" / "can0" / "device" / "driver").symlink_to(
        tmp_path / "drivers" / "mcp251xfd"
    )
    stats = {"rx_packets": 3, "tx_packets": 4, "rx_bytes": 24, "tx_bytes": 8}
    (link,) = parse_links([link_message("can0", "can", data=data, stats=stats)], tmp_path)
    assert (link.sample_point, link.data_bitrate, link.data_sample_point) == (
        0.875,
        2_000_000,
        0.75,
    )
    assert (link.restart_ms, link.frames, link.payload) == (100, 7, 32)
    assert (link.driver, link.restartable) == ("mcp251xfd", True)


def test_what_the_kernel_must_not_be_asked_to_restart(tmp_path: Path) -> None:
    assert not replace(
        parse_links([link_message("can0", "can")], tmp_path)[0], driver="gs_usb"
    ).restartable
    assert not parse_links([link_message("slcan0", "can")], tmp_path)[0].restartable


def test_a_restart_is_asked_for_as_the_kernel_reads_it() -> None:
    message = ifinfmsg(restart_request(7))
    message.decode()
    assert (message["header"]["type"], message["index"]) == (16, 7)
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "can"
    # IFLA_CAN_RESTART with a number, NLA_U32 in the kernel's own policy.
    assert restart_request(7).endswith(bytes.fromhex("0c000200 08000700 01000000"))


def test_a_restart_that_the_kernel_refuses_says_why() -> None:
    with pytest.raises(OSError, match=r"No such device|not permitted"):
        restart_controller(2**31 - 1)


def test_one_link_is_asked_for_again_and_again() -> None:
    query = LinkQuery(2**31 - 1)
    try:
        assert [query.ask(), query.ask()] == [None, None]
    finally:
        query.close()
