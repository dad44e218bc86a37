"""``sat doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.text import Text

from sat_cli import options
from sat_cli.checks import Check, check_all
from sat_cli.output import out, print_json, styled


def doctor(
    json: options.Json = False,
    broker: options.Broker = options.BROKER_DEFAULT,
    site: options.Site = options.SITE_DEFAULT,
    plugins: options.Plugins = "",
) -> None:
    """Say what is wrong with this machine and the site, and what to do about it.

    It looks at versions, each plugin, CAN in the kernel, permissions, the broker and how fast it
    is, the orchestrator, hosts and devices. The exit status is 1 when something fails.

      sat doctor
      sat doctor --broker mqtt://bench1 --json
    """
    found: list[Check] = []
    for check in check_all(broker, site, plugins):
        found.append(check)
        if not json:
            _print(check)
    failed = sum(check.level == "fail" for check in found)
    warned = sum(check.level == "warn" for check in found)
    if json:
        print_json({"ok": failed == 0, "checks": [asdict(check) for check in found]})
    else:
        out.print(f"\n{failed} failed, {warned} to look at, {len(found) - failed - warned} ok")
    if failed:
        raise typer.Exit(1)


def _print(check: Check) -> None:
    line = styled(check.level)
    line.append(" " * (6 - len(check.level)))
    line.append(check.name, "bold")
    line.append(f"  {check.text}", "")
    out.print(line, soft_wrap=True)
    if check.level != "ok":
        out.print(Text(f"      do: {check.todo}", "cyan"), soft_wrap=True)
