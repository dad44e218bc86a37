"""``sat plugin``: the author's kit. A new driver, the check of one, and a device without a
broker."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from sat_cli import options
from sat_cli.kit.check import check_plugin
from sat_cli.kit.child import Options
from sat_cli.kit.findings import Finding, failed
from sat_cli.kit.new import new_plugin
from sat_cli.output import out, print_json
from sat_toolkit.core.plugin_loader import PluginFile, find_plugins, inner_folder, plugin_at
from sat_toolkit.errors import ConfigError, PluginError

app = typer.Typer(
    no_args_is_help=True, help="Write a driver: start one, check it, run it without a broker."
)

Config = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="JSON", help='The driver\'s configuration, such as \'{"port": "..."}\'.'
    ),
]
_WIDTH = 12


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the driver is for, such as power_supply.")
    ],
    family: Annotated[
        str | None, typer.Option(metavar="F", help="The family, its folder's name. [NAME]")
    ] = None,
    directory: Annotated[
        Path,
        typer.Option(
            "--dir", metavar="D", file_okay=False, help="Where the family's folder is, or shall be."
        ),
    ] = Path(),
) -> None:
    """Write a working driver, its simulator and its test.

    They pass as they are; each says what to change. Nothing is overwritten.

      sat plugin new power_supply
      sat plugin new power_supply --family lab --dir ~/my-plugins
    """
    written = new_plugin(name, family, directory)
    for path in written:
        out.print(f"wrote {path}", soft_wrap=True)
    out.print(f"\nnext:\n  sat plugin check {written[0]}\n  pytest {written[-1]}", soft_wrap=True)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH...]", help="Drivers, or folders that have some. [.]"),
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic/--no-dynamic", help="Also run it, in a process of its own.")
    ] = True,
    sim: Annotated[
        bool,
        typer.Option("--sim/--no-sim", help="Run it on the sim_*.py beside it, if there is one."),
    ] = True,
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The device to use. [the first found]")
    ] = None,
    config: Config = None,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="What each step may take. [as a driver host has it]"
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say whether a driver holds what a driver has to hold, and what to change where it does not.

    First its source is read. Then it is run on its simulator, or on the device that
    its scan finds here. The exit status is 1 when something fails.

      sat plugin check
      sat plugin check demo/drv_demo.py --json
      sat plugin check drv_psu.py --no-sim --config '{"port": "/dev/ttyUSB0"}'
    """
    how = Options(_config(config), sim and config is None, device, limit)
    report: list[dict[str, Any]] = []
    for plugin in _plugins(paths or [Path()]):
        path = _shown(plugin.path)
        if not json:
            out.print(Text(str(path), "bold"), soft_wrap=True)
        found: list[Finding] = []
        for finding in check_plugin(path, dynamic=dynamic, options=how):
            found.append(finding)
            if not json:
                _print_finding(finding)
        if not json:
            _print_verdict(found)
        report.append(_as_json(plugin, path, found))
    ok = all(entry["ok"] for entry in report)
    if json:
        print_json({"ok": ok, "plugins": report})
    if not ok:
        raise typer.Exit(1)


@app.command()
def run(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The driver, or its folder.")],
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="The device. Needed where there are several.")
    ] = None,
    config: Config = None,
    sim: Annotated[bool, typer.Option("--sim", help="On the sim_*.py beside it.")] = False,
    command: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Run this and end; may be given again.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="N", help="Print frames for N seconds after the commands."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what the driver logs.")
    ] = False,
) -> None:
    """Use a device in this terminal, without a broker and without services.

    It is scanned for and connected; then commands are read, one a line. /help says what there is;
    Ctrl-D or /quit closes the device. A driver that crashes takes this command along.

      sat plugin run demo --sim
      sat plugin run drv_psu.py --config '{"port": "/dev/ttyUSB0"}'
      sat plugin run demo --sim --device demo1 --command "set value=30" --command start --seconds 3
    """
    from sat_cli.kit.run import (
        Session,
        read_commands,
        run_commands,
    )  # with the kit's fakes, and only wanted here

    (plugin, *others) = _plugins([path])
    if others:
        names = ", ".join(str(_shown(found.path)) for found in (plugin, *others))
        raise ConfigError(f"{path} has several drivers, name one: {names}")
    with Session(plugin, _config(config), simulate=sim, verbose=verbose) as session:
        session.connect(device)
        failures = (
            run_commands(session, command, seconds) if command else read_commands(session, seconds)
        )
    if failures:
        raise typer.Exit(1)


# --- what they share ---------------------------------------------------------------------------------


def _plugins(paths: Iterable[Path]) -> list[PluginFile]:
    """The drivers that the paths name.

    Raises:
        ConfigError: they name no driver.
        PluginError: two have the same name.
    """
    found: list[PluginFile] = []
    for path in paths:
        if path.is_dir():
            inside = find_plugins([inner_folder(path.resolve())])
            if not inside:
                raise ConfigError(f"{path} has no drv_*.py; sat plugin new NAME writes one")
            found += inside
        elif path.exists():
            found.append(_plugin_at(path))
        else:
            raise ConfigError(f"{path}: there is no such file or folder")
    return found


def _plugin_at(path: Path) -> PluginFile:
    """The plugin, also where its name cannot be one's: the check is to say so."""
    try:
        return plugin_at(path)
    except PluginError:
        return PluginFile(path.stem, path.resolve().parent.name, path.resolve())


def _config(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json_module.loads(text)
    except ValueError as error:
        raise ConfigError(f"--config takes a JSON object; {error}") from None
    if not isinstance(value, dict):
        raise ConfigError('--config takes a JSON object such as \'{"port": "/dev/ttyUSB0"}\'')
    return value


def _shown(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _print_finding(finding: Finding) -> None:
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    word = "FAIL" if finding.level == "fail" else finding.level
    long = len(finding.check) > _WIDTH - 2
    line = Text(f"  {word:<6}", styles[finding.level])
    line.append(
        finding.check if long else f"{finding.check:<{_WIDTH}}",
        "" if finding.level == "ok" else "bold",
    )
    if finding.text:
        line.append(f": {finding.text}" if long else finding.text)
    out.print(line, soft_wrap=True)
    if finding.level == "ok":
        return
    if finding.file:
        where = str(_shown(Path(finding.file).resolve()))
        out.print(
            Text(f"        {where}:{finding.line}" if finding.line else f"        {where}", "dim"),
            soft_wrap=True,
        )
    if finding.fix:
        first, *rest = finding.fix.splitlines()
        out.print(
            Text(
                "\n".join([f"        do: {first}", *(f"            {each}" for each in rest)]),
                "cyan",
            ),
            soft_wrap=True,
        )


def _print_verdict(found: list[Finding]) -> None:
    counts = {
        level: sum(finding.level == level for finding in found) for level in ("fail", "warn", "ok")
    }
    style = "red" if counts["fail"] else "yellow" if counts["warn"] else "green"
    text = f"{counts['fail']} failed, {counts['warn']} to look at, {counts['ok']} ok\n"
    out.print(Text(text, style))


def _as_json(plugin: PluginFile, path: Path, found: list[Finding]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "family": plugin.family,
        "path": str(path),
        "ok": not failed(found),
        "checks": [asdict(finding) for finding in found],
    }
