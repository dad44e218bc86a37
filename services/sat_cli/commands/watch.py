"""``sat watch``: what happens on the site, or the frames of a device, as it happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_cli import frames, options
from sat_cli.output import err, out, print_json, styled
from sat_client import Key, Rack, Received
from sat_client.feed import Heard

_ROWS = (topics.DEVICE_STATUS, topics.DEVICE_EVENT, topics.HOST_STATE, topics.ORCHESTRATOR_STATE)
_TURN = 0.5  # seconds between looks at the clock


def watch(
    device: Annotated[
        str | None,
        typer.Argument(metavar="[DEVICE]", help="Its frames; without it states and events of all."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N frames (or events).")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="End after this time; exit 1 if --count was not met."
        ),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Only this stream of the device, such as can."),
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option(
            metavar="DBC", help="Decode the frames with this DBC file.", exists=True, dir_okay=False
        ),
    ] = None,
    json: options.Json = False,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """Print what happens: the frames of a device, or states and events of the site.

    Frames are printed as candump does, whether they come as json or as bin. Those that were lost
    are reported where they are missing, with the causes; with --json as an object with the keys
    [bold]missed[/], [bold]dropped[/], [bold]first[/], [bold]last[/] and [bold]causes[/]. Ctrl-C
    ends it.

      sat watch
      sat watch ecu
      sat watch ecu --count 100 --json | jq .id
      sat watch ecu --signals plugins/devices/can/sat_ecu.dbc
    """
    decoder: frames.SignalDecoder | None = None
    if signals is not None:
        from sat_cli.dbc import Dbc  # slow to import, and only wanted here

        decoder = Dbc(signals)
    with options.rack(broker, site) as rack:
        lines = (
            _frames(rack, device, stream, json, decoder)
            if device is not None
            else _events(rack, json)
        )
        try:
            met = _print(lines, count, timeout)
        except KeyboardInterrupt:
            met = count is None
    if not met:
        raise typer.Exit(1)


def _print(
    lines: Iterator[Text | str | dict[str, Any] | None], count: int | None, timeout: float | None
) -> bool:
    """Print until `count` or `timeout`; None stands for a moment in which nothing came, and is not
    counted."""
    end = time.monotonic() + timeout if timeout is not None else None
    left = count
    for line in lines:
        if isinstance(line, dict):
            print_json(line)
        elif isinstance(line, Text):
            out.print(line, soft_wrap=True)
        elif line is not None:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if (
            left is not None
            and line is not None
            and not (isinstance(line, dict) and "missed" in line)
        ):
            left -= 1
            if left == 0:
                return True
        if end is not None and time.monotonic() >= end:
            break
    return count is None


def _frames(
    rack: Rack, device: str, stream: str | None, json: bool, decoder: frames.SignalDecoder | None
) -> Iterator[str | dict[str, Any] | None]:
    found = rack.device(device)
    with found.watch(stream) as watched:
        while True:
            received = watched.get(_TURN)
            if received is None:
                yield None
                continue
            yield from _losses(received, json)
            for index, frame in enumerate(received.frames):
                if json:
                    yield {
                        "device": found.id,
                        "stream": received.type,
                        "seq": received.batch.seq + index,
                    } | frame
                else:
                    yield frames.line(found.id, frame, decoder)


def _losses(received: Received, json: bool) -> Iterator[dict[str, Any]]:
    gap = received.gap
    if json:
        if gap or received.dropped or received.explained:
            where = (
                {"first": gap.first, "last": gap.last, "causes": dict(gap.causes)} if gap else {}
            )
            more = {"explained": received.explained} if received.explained else {}
            counts = {"missed": received.missed, "dropped": received.dropped}
            yield {"device": received.key.device} | counts | where | more
        return
    if gap:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(gap.causes.items()))
        err.print(
            f"-- {gap.count} frames are missing here, {gap.first} to {gap.last}: {causes}",
            style="red",
        )
    for cause, count in received.explained.items():
        err.print(
            f"-- {count} of the frames that are missing above were lost in the host: {cause}",
            style="red",
        )


def _events(rack: Rack, json: bool) -> Iterator[Text | dict[str, Any] | None]:
    with rack.feed(*_ROWS) as feed:
        seen: dict[Any, Any] = {}
        for device in rack.devices():
            if (status := device.status) is not None:
                seen[device.key] = _essence(status)
                yield _device_line(device.key, status, json)
        while True:
            heard = feed.get(_TURN)
            yield _event_line(heard, seen, json) if heard is not None else None


def _event_line(heard: Heard, seen: dict[Any, Any], json: bool) -> Text | dict[str, Any] | None:
    """The line for a message; None when it says nothing new (a broker tells all again after a
    reconnect)."""
    levels, message = heard.match.levels, heard.message
    if isinstance(message, m.Status):
        key = Key(levels["host"], levels["driver"], levels["device"])
        if seen.get(key) == _essence(message):
            return None
        seen[key] = _essence(message)
        return _device_line(key, message, json)
    if isinstance(message, m.HostState | m.OrchestratorState):
        who = f"host {levels['host']}" if "host" in levels else "orchestrator"
        if seen.get(who) == message:
            return None
        seen[who] = message
        if json:
            return {"service": who} | message.model_dump(mode="json")
        return _stamp(time.time()).append(f"{who} ").append(styled(message.state))
    if isinstance(message, m.Event):
        name = levels["device"]
        plain = message.model_dump(mode="json", exclude_none=True)
        if json:
            return {"device": name, "driver": levels["driver"], "host": levels["host"]} | plain
        more = " ".join(
            f"{k}={v}" for k, v in plain.items() if k not in ("event", "at", "boot", "rev")
        )
        return _stamp(message.at).append(name, "bold").append(f" {message.event} {more}")
    return None


def _device_line(key: Key, status: m.Status, json: bool) -> Text | dict[str, Any]:
    if json:
        names = {"device": key.device, "driver": key.driver, "host": key.host}
        return names | status.model_dump(mode="json", exclude_none=True)
    line = _stamp(status.since).append(key.device, "bold").append(" ").append(styled(status.state))
    if status.quality == "lost":
        line.append(" lost", "bold red")
    running = " ".join(kind for kind, s in sorted(status.streams.items()) if s.state == "running")
    line.append(f"  streams {running}" if running else "")
    line.append(f"  by {status.by}{f' ({status.operation})' if status.operation else ''}", "dim")
    return line.append(f"  {status.reason}", "yellow") if status.reason else line


def _essence(status: m.Status) -> Any:
    """What a reader would notice of a status."""
    streams = {kind: s.state for kind, s in status.streams.items()}
    return status.state, status.quality, status.reason, streams, status.boot


def _stamp(at: float) -> Text:
    return Text(
        time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}  ", "dim"
    )
