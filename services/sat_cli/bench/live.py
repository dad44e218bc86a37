"""How ``sat up`` shows a bench: a table that stays in place on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from sat_cli.bench.monitor import Flow, Monitor
from sat_cli.device_text import reason, streams_text
from sat_cli.output import styled, table
from sat_client import Device

_REFRESH = 0.25
_LINE_EVERY = 5.0


class LiveView(Protocol):
    """Shows what goes on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, text: str, style: str = "") -> None:
        """Something happened."""

    def show(self, monitor: Monitor, programs: Mapping[str, str], seconds: float) -> None:
        """The present state; called several times a second."""


class Lines:
    """Plain lines: each state as it is reached, the traffic now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._known: dict[str, str] = {}
        self._next = _LINE_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, soft_wrap=True)

    def show(self, monitor: Monitor, programs: Mapping[str, str], seconds: float) -> None:
        del programs  # `say` tells when one of them ends
        now = {f"host {name}": host.state for name, host in monitor.rack.hosts().items()}
        devices = monitor.rack.devices()
        now |= {str(device.key): _line(device) for device in devices}
        for name, state in now.items():
            if self._known.get(name) != state:
                self.say(f"{seconds:6.1f} s  {name}: {state}")
        self._known = now
        if seconds >= self._next:
            self._next = seconds + _LINE_EVERY
            for key, flow in monitor.flows.items():
                self.say(
                    f"{seconds:6.1f} s  {key}: {_rate(flow)} frames/s, {flow.frames} frames, {flow.lost} lost"
                )


class Table:
    """A table that is drawn again in place, and what happened above it."""

    def __init__(self, console: Console, title: str, hints: tuple[str, ...]) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._title, self._hints = title, hints
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        self._live.console.print(text, style=style, soft_wrap=True)

    def show(self, monitor: Monitor, programs: Mapping[str, str], seconds: float) -> None:
        now = time.monotonic()
        if now - self._drawn >= _REFRESH:
            self._drawn = now
            self._live.update(self._render(monitor, programs, seconds), refresh=True)

    def _render(
        self, monitor: Monitor, programs: Mapping[str, str], seconds: float
    ) -> RenderableType:
        clock = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
        title = Text.assemble(("SAT bench", "bold"), f"  {self._title}  ", (clock, "dim"))
        look = Text("look: ", "dim")
        look.append("\n      ".join(self._hints), "cyan")
        return Group(
            Text(""), title, Text(""), Padding(_devices(monitor), (0, 2)), Text(""),
            Padding(_services(monitor, programs), (0, 2)), Text(""), look, Text("Ctrl-C ends it", "dim"),
        )  # fmt: skip


def _devices(monitor: Monitor) -> RenderableType:
    devices = monitor.rack.devices()
    if not devices:
        return Text("no devices yet", "dim")
    rows = table("DEVICE", "STATE", "STREAMS", "FRAMES/S", "FRAMES", "LOST", "HOST")
    for column in rows.columns[3:6]:
        column.justify = "right"
    for device in devices:
        flow = monitor.flows.get(device.key, Flow())
        lost = Text(f"{flow.lost:,}", "bold red" if flow.lost else "")
        rows.add_row(
            Text(device.id, "bold"), styled(device.state), streams_text(device.status), _rate(flow),
            f"{flow.frames:,}", lost, device.host,
        )  # fmt: skip
        if text := reason(device):
            rows.add_row("", Text(text, "dim"))
    return rows


def _line(device: Device) -> str:
    why = reason(device)
    words = (str(device.state), streams_text(device.status), f"({why})" if why else "")
    return " ".join(word for word in words if word)


def _rate(flow: Flow) -> str:
    return "-" if flow.per_second is None else f"{flow.per_second:,.0f}"


def _services(monitor: Monitor, programs: Mapping[str, str]) -> Text:
    line = Text()
    for name, phase in programs.items():
        line.append(f"{name} ").append(styled(phase)).append("   ")
    for name, host in monitor.rack.hosts().items():
        if not host.alive:
            line.append(f"{name} ").append(styled(host.state)).append("   ")
    return line
