"""``sat do``, ``sat set`` and ``sat scan``: what may be asked of devices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sat_bus.contract import messages as m
from sat_cli import options
from sat_cli.output import out, print_json, print_result, styled, table
from sat_cli.values import parse_args
from sat_client import Device
from sat_client.requests import check
from sat_toolkit.errors import SatError

Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.001, max=600.0, help="How long to wait.")
]


def do(
    device: options.DeviceName,
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="See sat info DEVICE.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="The command's arguments.")
    ] = None,
    json: options.Json = False,
    timeout: Timeout = 10.0,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """Run a command of a device and print what it returns.

    A value is JSON (a number, true, a list, ...) unless the command takes text there; see [bold]sat
    info[/]. With --json the whole reply is printed, also one that reports an error; the exit status
    is 1 then.

      sat do ecu status
      sat do ecu send id=0x123 data=deadbeef
      sat do ecu send id=0x100 data=01 period_ms=100
      sat do ecu filter 'filters=[{"id": "0x100"}]'
    """
    with options.rack(broker, site) as rack:
        try:
            found = rack.device(device)
            reply = found.request(
                command, parse_args(args or (), _schema(found, command)), timeout=timeout
            )
        except SatError as error:
            if not json:
                raise
            print_json(m.failed(None, error, host="", boot="").model_dump(mode="json"))
            raise typer.Exit(1) from None
        if json:
            print_json(reply.model_dump(mode="json"))
            raise typer.Exit(0 if reply.status == "ok" else 1)
        print_result(check(reply).result)


def set_level(
    device: options.DeviceName,
    level: Annotated[
        str, typer.Argument(metavar="LEVEL", help="disconnected, initialized, connected or auto.")
    ],
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="A stream to run, such as can; may be given again."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the device is there.")] = False,
    timeout: Timeout = 30.0,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """Say where a device should be. The orchestrator brings it there and keeps it there.

    This replaces what policy says of the device, until [bold]auto[/] gives it back to policy.

      sat set ecu disconnected --wait
      sat set ecu connected --stream can
      sat set ecu auto
    """
    with options.rack(broker, site) as rack:
        found = rack.device(device)
        streams: dict[str, dict[str, Any]] | None = (
            None if stream is None else {kind: {} for kind in stream}
        )
        found.set(level, streams, timeout=timeout)
        if wait and level != "auto":
            found.wait_for(level, timeout)
        line = styled(found.state) if wait else f"asked for {level}; now {found.state}"
        out.print(f"{found.key}:", line)


def release(
    device: options.DeviceName,
    timeout: Timeout = 30.0,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """End the quarantine of a device whose driver died too often, and let it come back.

    A device whose worker process dies five times within a minute is left alone until somebody has
    looked: [bold]sat info[/] says what killed it.

      sat release ecu
    """
    with options.rack(broker, site) as rack:
        found = rack.device(device)
        result = found.release(timeout=timeout).result or {}
        out.print(f"{found.key}:", "released" if result.get("released") else "was not quarantined")


def scan(
    host: Annotated[str | None, typer.Option(metavar="NAME", help="Only this host.")] = None,
    driver: Annotated[str | None, typer.Option(metavar="NAME", help="Only this driver.")] = None,
    json: options.Json = False,
    timeout: Timeout = 30.0,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """Have the drivers look for devices now, and show what they found.

    Hosts scan by themselves when they start and now and then; this is for the impatient.
    The exit status is 1 when a driver could not scan.

      sat scan
      sat scan --driver drv_socketcan --json
    """
    with options.rack(broker, site) as rack:
        result = rack.scan(host=host, driver=driver, timeout=timeout)
    errors = result.get("errors") or {}
    if json:
        print_json(result)
    else:
        rows = table("DEVICE", "STATE", "", "DRIVER", "HOST")
        for entry in result.get("devices", ()):
            fresh = "new" if entry.get("new") else ""
            state = styled(str(entry.get("state", "")))
            rows.add_row(
                str(entry.get("device")),
                state,
                fresh,
                str(entry.get("driver")),
                str(entry.get("host", "")),
            )
        out.print(rows if rows.row_count else "no devices found")
        for name, text in errors.items():
            out.print(f"{name}: {text}", style="red")
    if errors:
        raise typer.Exit(1)


def _schema(device: Device, command: str) -> dict[str, Any] | None:
    meta = device.meta
    declared = meta.commands.get(command) if meta else None
    return declared.parameters if declared else None
