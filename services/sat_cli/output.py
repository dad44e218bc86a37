"""What commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sat_client import Offline
from sat_toolkit.errors import Code, ConfigError, PluginError, SatError

# No markup: what devices and drivers say may hold square brackets.
out = Console(soft_wrap=False, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

STATE_STYLES = {
    "connected": "green", "active": "bold green", "initialized": "cyan", "discovered": "cyan",
    "disconnected": "yellow", "error": "bold red", "unknown": "dim", "ready": "green", "lost": "bold red",
    "offline": "yellow", "init": "cyan", "draining": "yellow", "good": "green", "running": "green",
    "failed": "bold red", "waiting": "yellow", "stopped": "yellow", "ok": "green", "warn": "yellow", "fail": "bold red",
}  # fmt: skip

_NEXT = {
    Code.UNKNOWN_DEVICE: "sat ls shows what is there; sat scan looks for more",
    Code.UNKNOWN_COMMAND: "sat info DEVICE lists its commands",
    Code.BAD_ARGS: "sat info DEVICE shows what each command takes",
    Code.BAD_STATE: "sat set DEVICE connected --wait brings it there",
    Code.BUSY: "try again in a moment",
    Code.EXPIRED: "try again; nothing was started",
    Code.HOST_LOST: "sat ls shows the hosts; sat doctor says what is wrong",
}


def print_json(value: Any) -> None:
    """`value` as one line of JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def print_result(result: Any) -> None:
    """What a command returned, for a person to read."""
    if result is None:
        out.print("done")
    elif isinstance(result, str):
        out.print(result, soft_wrap=True)
    else:
        out.print_json(data=result)


def print_error(error: SatError) -> None:
    """One red line on stderr, and what to do next."""
    text = str(error)
    line = Text("error", "bold red")
    line.append(f" ({label(error)}): ", "red")
    line.append(text, "red")
    err.print(line)
    hint = None if "sat " in text or isinstance(error, ConfigError) else _NEXT.get(error.code)
    if hint:
        err.print(Text(f"  next: {hint}", "dim"))


def label(error: SatError) -> str:
    """The word in brackets: the wire code, or where the error never was on a wire what it is
    about."""
    for kind, word in ((Offline, "no_broker"), (ConfigError, "config"), (PluginError, "plugin")):
        if isinstance(error, kind):
            return word
    return str(error.code)


def styled(word: str) -> Text:
    """A state, coloured."""
    return Text(word, STATE_STYLES.get(word, ""))


def table(*columns: str) -> Table:
    """An empty table in the look that all commands share."""
    result = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        result.add_column(column, overflow="fold")
    return result
