"""The ``sat`` command. A subcommand is imported when it is run, or when the help tells of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sat_cli.command_table import COMMANDS, Place
from sat_toolkit import __version__


class _Loaded(Mapping[str, Any]):
    """The commands by name, in the order of the table; each is made when somebody looks it up."""

    def __getitem__(self, name: str) -> Any:
        return _make(name, COMMANDS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    """The group whose commands are those of the table."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": _Loaded()})


def _make(name: str, place: Place) -> Any:
    module, _, attribute = place.where.partition(":")
    found = getattr(importlib.import_module(f"sat_cli.commands.{module}"), attribute)
    one = typer.Typer(add_completion=False, rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        one.add_typer(found, name=name)
        command = typer.main.get_group(one).commands[name]
    else:
        one.command(name)(found)
        command = typer.main.get_command(one)
    command.rich_help_panel = place.panel  # type: ignore[attr-defined]
    return command


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sat {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="sat",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


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
    import logging  # with all else that a look at the version does without

    # What a library has to say of a lost connection is said by our own error; services set up their
    # own logs.
    logging.getLogger().addHandler(logging.NullHandler())
