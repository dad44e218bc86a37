"""The ``sat`` command: its subcommands, and how it ends.

Exit status: 0 done, 1 it failed (one line says why and what to do), 2 it was called wrongly or a
setting is wrong.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from sat_cli.commands import broker, devices, doctor, plugin, services, show, up, watch
from sat_cli.output import print_error
from sat_toolkit import __version__
from sat_toolkit.errors import ConfigError, SatError

app = typer.Typer(
    name="sat",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

_RUN, _LOOK, _ACT, _WRITE = "Run", "Look", "Act", "Write drivers"

app.command(rich_help_panel=_RUN)(up.up)
app.command(rich_help_panel=_RUN)(services.host)
app.command(rich_help_panel=_RUN)(services.orchestrator)
app.command(rich_help_panel=_RUN)(broker.broker)
app.command("ls", rich_help_panel=_LOOK)(show.list_devices)
app.command(rich_help_panel=_LOOK)(show.info)
app.command(rich_help_panel=_LOOK)(watch.watch)
app.command(rich_help_panel=_LOOK)(doctor.doctor)
app.command("do", rich_help_panel=_ACT)(devices.do)
app.command("set", rich_help_panel=_ACT)(devices.set_level)
app.command(rich_help_panel=_ACT)(devices.release)
app.command(rich_help_panel=_ACT)(devices.scan)
app.add_typer(plugin.app, name="plugin", rich_help_panel=_WRITE)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sat {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Bench hardware on an MQTT bus: see it, command it, receive its frames.

    [bold]First minutes[/]

      sat up                                   a bench with a simulated ECU
      sat ls                                   what is there
      sat watch ecu                            its CAN frames
      sat do ecu send id=0x123 data=deadbeef   put a frame on the bus
      sat doctor                               what is wrong, and what to do

    Every command takes --broker URL (or SAT_BROKER_URL) and --site (or SAT_SITE).
    """
    del version


def main() -> None:
    """The entry point of the ``sat`` script."""
    # What a library has to say of a lost connection is said by our own error; services set up their
    # own logs.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app()
    except SatError as error:
        print_error(error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:  # `sat ls | head`: who read us has seen enough
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
