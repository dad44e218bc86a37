"""``sat up``: a whole bench on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sat_cli import options
from sat_cli.bench import plan
from sat_cli.bench.demo import FamilyDemo, load_demo
from sat_cli.bench.live import Lines, LiveView, Table
from sat_cli.bench.monitor import Monitor
from sat_cli.bench.paths import make_runtime_dir, state_dir
from sat_cli.bench.supervisor import Ended, Supervisor
from sat_cli.brokers.choice import BrokerKind, resolve
from sat_cli.brokers.tcp_ports import check_free
from sat_cli.output import err, print_json
from sat_client import Rack
from sat_toolkit import __version__
from sat_toolkit.core.plugin_loader import find_plugins, plugin_folders
from sat_toolkit.errors import ConfigError, SatError

BROKER_TIMEOUT = 20.0
_TURN = 0.1
_TAIL = 8
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens everywhere


def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The broker's port.")] = 1883,
    bind: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The broker's address; it has no users.")
    ] = "127.0.0.1",
    ws_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Also MQTT over WebSocket, there.")
    ] = None,
    kind: Annotated[
        BrokerKind, typer.Option("--broker-kind", help="auto: Mosquitto where it is on the PATH.")
    ] = BrokerKind.AUTO,
    broker: Annotated[
        str | None,
        typer.Option("--broker", metavar="URL", help="Use this broker instead of starting one."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0, metavar="N", help="End after N seconds, with a verdict as exit status."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one summary object on stdout at the end.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="With each family's simulated device.")
    ] = True,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state-dir", metavar="FOLDER", help="Logs and database. [~/.local/state/sat/port-N]"
        ),
    ] = None,
    site: options.Site = options.SITE_DEFAULT,
    plugins: options.Plugins = "",
) -> None:
    """Run a whole bench on this machine, with a simulated ECU and a simulated console.

    That is a broker, the orchestrator and a driver host for each family. Devices
    are found, connected and streamed without anyone asking. Ctrl-C ends it all.

    With --seconds the exit status is 0 only when each simulated device (without
    the demo: any device) connected and sent frames, with none lost.

      sat up
      sat up --port 1884 --seconds 20 --json
      sat up --no-demo --plugins ~/my-plugins
    """
    bench = _plan(broker, kind, bind, port, ws_port, site, plugins, demo, state)
    summary: dict[str, Any] = {"version": __version__, "broker": bench.broker_kind or "external"}
    try:
        with _signals() as stop:
            found, problems = _run(bench, seconds, stop, _view(bench, json))
    finally:
        shutil.rmtree(bench.runtime, ignore_errors=True)
    judged = problems if seconds is not None else []
    if json:
        print_json(summary | {"broker_url": bench.broker_url, "site": site, "ok": not problems} | found
                   | {"problems": problems})  # fmt: skip
    elif seconds is not None:
        verdict = f"failed: {'; '.join(problems)}" if problems else "all well"
        err.print(
            f"{verdict}: {found.get('frames', 0)} frames ({found.get('frames_per_s', 0)}/s), "
            f"{found.get('dropped', 0)} dropped, {found.get('gaps', 0)} missing",
            style="red" if problems else "green",
        )
    if judged:
        raise typer.Exit(1)


class _Stop:
    """Set by a signal."""

    asked = False


def _plan(
    broker: str | None, kind: BrokerKind, bind: str, port: int, ws_port: int | None,
    site: str, plugins: str, demo: bool, state: Path | None,
) -> plan.BenchPlan:  # fmt: skip
    """The bench to run.

    Raises:
        ConfigError: a port is taken, or a folder of plugins is not there.
    """
    for wanted in (port, ws_port) if broker is None else ():
        if wanted is not None:
            check_free(bind, wanted)
    found = find_plugins(plugin_folders(plugins))
    families = tuple(sorted({plugin.family for plugin in found}))
    runtime = make_runtime_dir(port)
    reach = _WILDCARDS.get(bind, bind)
    host = f"[{reach}]" if ":" in reach else reach
    return plan.BenchPlan(
        broker_url=broker or f"mqtt://{host}:{port}",
        broker_kind=resolve(kind, ws_port).value if broker is None else None,
        bind=bind,
        port=port,
        ws_port=ws_port,
        site=site,
        families=families,
        plugins=os.pathsep.join(str(Path(p).absolute()) for p in plugins.split(os.pathsep) if p),
        demo=load_demo({plugin.path.parent for plugin in found}, runtime) if demo else FamilyDemo(),
        state=_writable(state or state_dir(port)),
        runtime=runtime,
    )


def _writable(folder: Path) -> Path:
    """`folder`, made where it was not there.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the state folder {folder}: {error.strerror}; name another with --state-dir"
        ) from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"the state folder {folder} cannot be written to; name another with --state-dir"
        )
    return folder.absolute()


def _view(bench: plan.BenchPlan, json: bool) -> LiveView:
    title = f"{bench.broker_kind or 'your'} broker on {bench.broker_url}, site {bench.site}"
    if err.is_terminal and not json:
        return Table(err, title, tuple(plan.hints(bench)))
    lines = Lines(err)
    lines.say(f"SAT bench: {title}; logs in {bench.state / 'logs'}")
    for hint in plan.hints(bench):
        lines.say(f"  look: {hint}")
    return lines


def _run(
    bench: plan.BenchPlan, seconds: float | None, stop: _Stop, view: LiveView
) -> tuple[dict[str, Any], list[str]]:
    """Run `bench` until it is told to stop or its time is up; what flowed, and what was wrong with
    it.

    Raises:
        SatError: a program could not be kept running; its last words have been shown.
    """
    began = time.monotonic()
    supervisor = Supervisor(plan.programs(bench, os.environ), logs=bench.state / "logs")
    try:
        with view:
            if bench.broker_kind is not None:
                supervisor.start(plan.BROKER)
                _await_broker(bench, supervisor, stop, view)
            if stop.asked:
                return {}, ["stopped before it ran"]
            with Rack(bench.broker_url, site=bench.site) as rack:
                monitor = Monitor(
                    rack, began, [simulator.device for simulator in bench.demo.simulators]
                )
                supervisor.start()
                while not stop.asked and (seconds is None or time.monotonic() - began < seconds):
                    monitor.turn(_TURN)
                    _tell(supervisor, view)
                    view.show(monitor, supervisor.phases(), time.monotonic() - began)
                monitor.close()
                return monitor.summary() | {"restarts": supervisor.restarts()}, monitor.problems()
    finally:
        for name in supervisor.stop():
            err.print(f"{name} did not end when asked and was killed", style="yellow")


def _await_broker(
    bench: plan.BenchPlan, supervisor: Supervisor, stop: _Stop, view: LiveView
) -> None:
    """Wait until the broker's port answers.

    Raises:
        SatError: it does not come up.
    """
    deadline = time.monotonic() + BROKER_TIMEOUT
    while not stop.asked and not _answers(bench.bind, bench.port):
        _tell(supervisor, view)
        if time.monotonic() > deadline:
            raise SatError(
                f"the broker did not come up within {BROKER_TIMEOUT:g} s; see {supervisor.log(plan.BROKER)}"
            )
        time.sleep(_TURN / 2)


def _answers(bind: str, port: int) -> bool:
    try:
        socket.create_connection((bind, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _tell(supervisor: Supervisor, view: LiveView) -> None:
    """Say which programs have ended, with their last words.

    Raises:
        SatError: one of them cannot be kept running.
    """
    for ended in supervisor.step():
        view.say(_obituary(ended), "yellow")
        for line in supervisor.tail(ended.name, _TAIL):
            view.say(f"  | {line}", "dim")
        if ended.retry_in is None:
            raise SatError(
                f"{ended.name} cannot be kept running ({ended.status}); its log: {supervisor.log(ended.name)}"
            )


def _obituary(ended: Ended) -> str:
    again = f"; it starts again in {ended.retry_in:g} s" if ended.retry_in is not None else ""
    return f"{ended.name} has ended ({ended.status}){again}. It said last:"


@contextmanager
def _signals() -> Iterator[_Stop]:
    """While this lasts, Ctrl-C, SIGTERM and the end of the terminal ask for an orderly stop."""
    stop = _Stop()

    def handle(*_: object) -> None:
        stop.asked = True

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
