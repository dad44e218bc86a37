"""The subcommands of ``sat``: where each is written, and which extra it needs. Imports none."""

from __future__ import annotations

from typing import NamedTuple

_RUN, _LOOK, _ACT, _WRITE = "Run", "Look", "Act", "Write drivers"


class Place(NamedTuple):
    """A command: ``module:function`` below `sat_cli.commands`, its panel in the help, its extra."""

    where: str
    panel: str
    extra: str = "cli"


COMMANDS = {
    "up": Place("up:up", _RUN, "all"),
    "host": Place("services:host", _RUN, "host"),
    "orchestrator": Place("services:orchestrator", _RUN, "orchestrator"),
    "broker": Place("broker:broker", _RUN, "broker"),
    "ls": Place("show:list_devices", _LOOK),
    "info": Place("show:info", _LOOK),
    "watch": Place("watch:watch", _LOOK),
    "doctor": Place("doctor:doctor", _LOOK),
    "do": Place("devices:do", _ACT),
    "set": Place("devices:set_level", _ACT),
    "release": Place("devices:release", _ACT),
    "scan": Place("devices:scan", _ACT),
    "plugin": Place("plugin:app", _WRITE, "kit"),
}
