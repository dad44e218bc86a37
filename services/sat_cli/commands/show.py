"""``sat ls`` and ``sat info``: what is there, and what it can do."""

from __future__ import annotations

import time
from typing import Any

from rich.padding import Padding
from rich.text import Text

from sat_bus.contract import messages as m
from sat_cli import options
from sat_cli.device_text import last_known, reason, streams_text
from sat_cli.output import out, print_json, styled, table
from sat_cli.values import describe_schema
from sat_client import Device, Rack


def list_devices(
    json: options.Json = False,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """List the devices of the site and the hosts they belong to.

    DESIRED is where the orchestrator keeps the device: by policy, or because somebody set it
        ([bold]explicit[/]).
    What keeps a device from that is below the table. A device whose host is gone is [bold]lost[/].

      sat ls
      sat ls --json | jq -r '.devices[] | select(.state != "connected") | .device'
    """
    with options.rack(broker, site) as rack:
        if json:
            print_json(site_as_json(rack))
            return
        devices = rack.devices()
        if devices:
            _print_devices(devices)
        else:
            out.print(f"no devices on site {rack.site}")
        out.print()
        _print_services(rack)


def info(
    device: options.DeviceName,
    json: options.Json = False,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
) -> None:
    """Show a device: its state and why, what it is, its commands and what they take.

    sat info ecu
    sat info drv_socketcan/can0 --json
    """
    with options.rack(broker, site) as rack:
        found = rack.device(device)
        if json:
            print_json(
                device_as_json(found)
                | {"meta": found.meta.model_dump(mode="json") if found.meta else None}
            )
            return
        _print_facts(found)
        _print_commands(found.meta)


def site_as_json(rack: Rack) -> dict[str, Any]:
    """The site as ``sat ls --json`` prints it."""
    orchestrator = rack.orchestrator
    return {
        "site": rack.site,
        "orchestrator": orchestrator.state if orchestrator else None,
        "hosts": [
            {
                "host": host.name,
                "state": host.state,
                "boot": host.boot,
                "family": host.birth.family if host.birth else None,
                "drivers": [d.model_dump(exclude_none=True) for d in host.birth.drivers]
                if host.birth
                else [],
            }
            for host in rack.hosts().values()
        ],
        "devices": [device_as_json(device) for device in rack.devices()],
    }


def device_as_json(device: Device) -> dict[str, Any]:
    """A device as the ``--json`` forms print it."""
    status, row, meta = device.status, device.row, device.meta
    return {
        "device": device.id,
        "driver": device.driver,
        "host": device.host,
        "name": meta.name if meta else None,
        "state": device.state.value,
        "quality": device.quality,
        "last_known": last_known(device),
        "reason": reason(device),
        "since": status.since if status else None,
        "by": status.by if status else None,
        "desired": row.desired.model_dump(mode="json") if row and row.desired else None,
        "policy": row.policy if row else None,
        "streams": {kind: stream.state for kind, stream in status.streams.items()}
        if status
        else {},
    }


def desired_text(row: m.TableRow | None, *, rule: bool = False) -> Text:
    """``connected +can (explicit)``, or ``-`` where nothing is desired; with `rule`, that of policy
    too."""
    if row is None or row.desired is None:
        return Text("-")
    text = Text(row.desired.level + "".join(f" +{kind}" for kind in sorted(row.desired.streams)))
    if row.policy == m.EXPLICIT:
        text.append(f" ({m.EXPLICIT})", "dim")
    elif rule:
        text.append(f" (policy {row.policy})", "dim")
    return text


def _print_devices(devices: list[Device]) -> None:
    rows = table("DEVICE", "STATE", "STREAMS", "DESIRED", "DRIVER", "HOST")
    reasons = []
    for device in devices:
        state = styled(device.state)
        if was := last_known(device):
            state.append(f" (lost, was {was})", "dim")
        rows.add_row(
            Text(device.id, "bold"), state, streams_text(device.status), desired_text(device.row),
            device.driver, device.host,
        )  # fmt: skip
        if text := reason(device):
            reasons.append(Text.assemble((device.id, "bold"), f": {text}"))
    out.print(rows)
    if reasons:
        out.print("", *reasons, sep="\n")


def _print_services(rack: Rack) -> None:
    rows = table("SERVICE", "STATE", "DRIVERS")
    for host in rack.hosts().values():
        drivers = Text()
        for driver in host.birth.drivers if host.birth else ():
            drivers.append(f"{driver.name} ")
            if driver.error:
                drivers.append(f"({driver.error}) ", "red")
        rows.add_row(f"host {host.name}", styled(host.state), drivers)
    orchestrator = rack.orchestrator
    rows.add_row("orchestrator", styled(orchestrator.state if orchestrator else "not running"), "")
    out.print(rows)


def _print_facts(device: Device) -> None:
    status, meta = device.status, device.meta
    state = styled(device.state)
    if was := last_known(device):
        state.append(f" (its host is gone; it was {was})", "dim")
    facts: list[tuple[str, Any]] = [("device", Text(str(device.key), "bold")), ("state", state)]
    if status is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.since))
        facts.append(
            (
                "since",
                f"{since}, by {status.by} ({status.operation or 'no operation'}), was {status.previous}",
            )
        )
    if text := reason(device):
        facts.append(("reason", text))
    facts.append(("desired", desired_text(device.row, rule=True)))
    for kind, stream in sorted(status.streams.items()) if status else ():
        facts.append(("stream", f"{kind}: {stream.state}, by {stream.by}"))
    if meta is not None:
        facts += [("name", meta.name), ("type", meta.device_type)]
        facts += [("hardware", meta.hardware_id)] if meta.hardware_id else []
        facts += [("", f"{name} = {value}") for name, value in sorted(meta.attributes.items())]
    rows = table("", "")
    rows.show_header = False
    for name, value in facts:
        rows.add_row(Text(name, "dim"), value)
    out.print(rows)


def _print_commands(meta: m.Meta | None) -> None:
    if meta is None or not meta.commands:
        out.print("\nno commands")
        return
    out.print("\ncommands", style="dim")
    for name, command in meta.commands.items():
        out.print(Text.assemble((name, "bold"), f"  {command.description}"))
        rows = table("", "", "")
        rows.show_header = False
        required = command.parameters.get("required", ())
        for argument, schema in command.parameters.get("properties", {}).items():
            takes = describe_schema(schema) + (", required" if argument in required else "")
            about = schema.get("description", "") if isinstance(schema, dict) else ""
            rows.add_row(Text(argument, "cyan"), takes, Text(about, "dim"))
        if rows.row_count:
            out.print(Padding(rows, (0, 0, 0, 4)))
