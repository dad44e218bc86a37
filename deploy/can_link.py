"""Bring CAN links up, once: the step that takes the capability NET_ADMIN, so that no driver host
needs it.

    python can_link.py can0,can1 500000

A link that is up is left as it is. A virtual one (vcan, vxcan) has no bitrate and is only brought
up.
"""

from __future__ import annotations

import sys

from pyroute2 import IPRoute, NetlinkError


def bring_up(ip: IPRoute, name: str, bitrate: int) -> str:
    """Bring the link `name` up; returns what was done. Raises NetlinkError or LookupError."""
    index = next(iter(ip.link_lookup(ifname=name)), None)
    if index is None:
        raise LookupError("there is no such link; is the adapter plugged in, its module loaded?")
    (link,) = ip.get_links(index)
    if link["state"] == "up":
        return "was up already, and is left as it is"
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    if kind != "can":
        ip.link("set", index=index, state="up")
        return f"is up ({kind})"
    ip.link("set", index=index, kind="can", can_bittiming={"bitrate": bitrate})
    ip.link("set", index=index, state="up")
    return f"is up with {bitrate} bit/s"


def main(names: str, bitrate: str) -> int:
    """The program; its exit status."""
    failed = 0
    with IPRoute() as ip:
        for name in names.split(","):
            try:
                sys.stdout.write(f"can_link: {name} {bring_up(ip, name, int(bitrate))}\n")
            except (LookupError, ValueError, NetlinkError) as error:
                sys.stderr.write(f"can_link: {name}: {error}\n")
                failed = 1
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: can_link.py LINK[,LINK...] BITRATE")
    sys.exit(main(*sys.argv[1:]))
