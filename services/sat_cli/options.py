"""The options that every command takes, and the way from them to a rack."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Annotated

import typer

from sat_client import Rack
from sat_client.connection import DEFAULT_SITE, DEFAULT_URL

Broker = Annotated[
    str,
    typer.Option(
        "--broker",
        envvar="SAT_BROKER_URL",
        metavar="URL",
        help="mqtt:// mqtts:// ws:// or wss://, with user:password@",
    ),
]
Site = Annotated[
    str,
    typer.Option(
        "--site", envvar="SAT_SITE", help="The site, the level after sat/1/ in every topic."
    ),
]
Plugins = Annotated[
    str,
    typer.Option(
        "--plugins",
        envvar="SAT_PLUGINS",
        metavar="FOLDERS",
        help=f"Folders with more plugins, separated by {os.pathsep!r}.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DeviceName = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE", help="ecu, drv_socketcan/ecu or HOST/drv_socketcan/ecu; see sat ls."
    ),
]

BROKER_DEFAULT = DEFAULT_URL
SITE_DEFAULT = DEFAULT_SITE
_REFUSED_TIMEOUT = (
    1.0  # for a broker that is just starting; whoever has started none hears it at once
)


def rack(broker: str, site: str) -> closing[Rack]:
    """The rack, open, to use in a ``with`` statement.

    Raises:
        ConfigError: a wrong URL.
        Offline: no broker answers.
    """
    return closing(Rack(broker, site=site).open(refused_timeout=_REFUSED_TIMEOUT))
