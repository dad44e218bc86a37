"""``sat host`` and ``sat orchestrator``: the services, each in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Broker = Annotated[
    str | None,
    typer.Option("--broker", metavar="URL", help="[SAT_BROKER_URL] mqtt://127.0.0.1:1883"),
]
Site = Annotated[str | None, typer.Option("--site", help="[SAT_SITE] lab")]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="[SAT_CONFIG] TOML file with further settings."),
]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", help="[SAT_LOG_LEVEL] debug, info, warning or error")
]
LogFormat = Annotated[
    str | None, typer.Option("--log-format", help="[SAT_LOG_FORMAT] console or json")
]


def host(
    family: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="[SAT_FAMILY] The family of hardware, a folder of plugins: can."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its name on the bus. [SAT_HOST] <machine>-<family>"),
    ] = None,
    plugins: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDERS", help=f"[SAT_PLUGINS] More plugins, separated by {os.pathsep!r}."
        ),
    ] = None,
    config: Config = None,
    broker: Broker = None,
    site: Site = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run a driver host: one hardware family of this machine on the bus.

    A setting is taken from the option, else from the environment (in brackets), else from the file.
    What drivers need to know stands in the file, or as JSON in SAT_DRIVERS.

      sat host --family can
      sat host --family can --name bench1-can --broker mqtt://bench1 --config can.toml

    with, in can.toml, a CAN bus that is no link of the kernel:

      \\[drivers.drv_socketcan]
      buses = [{name = "ecu", interface = "slcan", channel = "/dev/ttyACM0"}]
    """
    from sat_host.app import run  # each service is imported only by its own command
    from sat_host.settings import HostSettings

    settings = HostSettings.load(
        family=family, host=name, plugins=plugins, config=config, broker_url=broker, site=site,
        log_level=log_level, log_format=log_format,
    )  # fmt: skip
    raise typer.Exit(run(settings))


def orchestrator(
    config: Config = None,
    broker: Broker = None,
    site: Site = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run the orchestrator of a site: it finds devices and keeps each where it should be.

    SAT_POLICY says, as JSON, which devices go where by themselves; without it they stay as found.

      sat orchestrator
      SAT_POLICY='[{"match": "*", "level": "connected", "streams": {"can": {}}}]' sat orchestrator
    """
    from sat_orchestrator.app import run
    from sat_orchestrator.settings import OrchestratorSettings

    settings = OrchestratorSettings.load(
        config=config, broker_url=broker, site=site, log_level=log_level, log_format=log_format
    )
    raise typer.Exit(run(settings))
