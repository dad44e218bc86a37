"""What ``sat doctor`` looks at. Each check says what it found, and where that is not good what to
do."""

from __future__ import annotations

import glob
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sat_bus.transport.mqtt import MqttBus
from sat_cli import options
from sat_cli.brokers.mosquitto import find_mosquitto
from sat_client import Offline, Rack
from sat_client.requests import Requester
from sat_toolkit import __version__
from sat_toolkit.core.plugin_loader import PluginFile, find_plugins, plugin_folders
from sat_toolkit.errors import ConfigError, SatError

Level = Literal["ok", "warn", "fail"]

MINIMUM_PYTHON = (3, 11)
LOAD_TIMEOUT = 20.0
ECHO_TIMEOUT = 2.0
SLOW_MS = 100.0
_CAP_NET_ADMIN = 12
_LIBRARIES = ("paho-mqtt", "python-can", "pydantic", "sqlalchemy")


@dataclass(frozen=True)
class Check:
    """One finding. `todo` says what to do about a level that is not ``ok``."""

    name: str
    level: Level
    text: str
    todo: str = ""


def check_all(broker: str, site: str, plugins: str) -> Iterator[Check]:
    """Every check, as its result comes."""
    yield check_python()
    yield from check_plugins(plugins)
    yield from check_can()
    yield from check_serial(sorted(glob.glob("/dev/ttyUSB*") + glob.glob("/dev/ttyACM*")))
    yield from check_site(broker, site)


def check_python() -> Check:
    """The interpreter and the versions that matter."""
    found = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    text = f"sat {__version__} on Python {platform.python_version()}; {found}"
    if sys.version_info < MINIMUM_PYTHON:
        return Check("python", "fail", text, "Python 3.11 or newer is needed")
    return Check("python", "ok", text)


def _version(library: str) -> str:
    """Which version is installed; an extra that was left out brings none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def check_plugins(plugins: str) -> Iterator[Check]:
    """Each plugin is loaded in a process of its own, so that none can take the doctor along."""
    try:
        found = find_plugins(plugin_folders(plugins))
    except SatError as error:
        yield Check("plugins", "fail", str(error), "correct SAT_PLUGINS or --plugins")
        return
    if not found:
        yield Check(
            "plugins",
            "fail",
            "no drv_*.py was found",
            "name their folder: --plugins FOLDER or SAT_PLUGINS",
        )
    for plugin in found:
        yield _check_plugin(plugin)


def _check_plugin(plugin: PluginFile) -> Check:
    name = f"plugin {plugin.name}"
    words = [
        sys.executable,
        "-P",  # not what lies in the folder that the doctor was called in
        "-m",
        "sat_cli.try_plugin",
        plugin.name,
        plugin.family,
        str(plugin.path),
    ]
    try:
        done = subprocess.run(
            words, capture_output=True, timeout=LOAD_TIMEOUT, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return Check(name, "fail", f"{plugin.path}: importing it takes more than {LOAD_TIMEOUT:g} s",
                     "a driver must do its work in its methods, not when it is imported")  # fmt: skip
    if done.returncode == 0:
        return Check(
            name, "ok", f"loads; family {plugin.family}; commands: {done.stdout.strip() or 'none'}"
        )
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    text = said[-1] if said else f"loading it ended with status {done.returncode}"
    return Check(name, "fail", text, f"sat plugin check {plugin.path}")


def check_can() -> Iterator[Check]:
    """Whether the kernel speaks CAN, and what of it this user may do."""
    if not hasattr(socket, "AF_CAN"):
        yield Check("kernel CAN", "warn", "this Python has no CAN sockets", _NO_CAN)
        return
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except OSError as error:
        yield Check("kernel CAN", "warn", f"the kernel has no CAN ({error.strerror})", _NO_CAN)
        return
    links = sorted(
        path.parent.name
        for path in Path("/sys/class/net").glob("*/type")
        if path.read_text().strip() == "280"
    )
    down = [link for link in links if _flags(link) & 1 == 0]
    yield Check("kernel CAN", "ok", f"links: {', '.join(links) or 'none'}")
    if down:
        name, todo = down[0], ""
        todo = f"sudo ip link set {name} type can bitrate 500000 && sudo ip link set {name} up"
        who = "this user may" if _may_administer() else "this user may not (CAP_NET_ADMIN)"
        yield Check("CAN links", "warn", f"down: {', '.join(down)}; bring them up: {who}", todo)


_NO_CAN = (
    "sudo modprobe can-raw vcan, or use adapters that need no kernel driver (slcan, pcan, ...)"
)


def _flags(link: str) -> int:
    try:
        return int(Path(f"/sys/class/net/{link}/flags").read_text(), 16)
    except (OSError, ValueError):
        return 0


def _may_administer() -> bool:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_NET_ADMIN & 1)


def check_serial(ports: list[str]) -> Iterator[Check]:
    """Whether this user may open the serial ports there are."""
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if closed:
        todo = "sudo usermod -aG dialout $USER, then log in again"
        yield Check("serial ports", "fail", f"no permission for {', '.join(closed)}", todo)
    else:
        yield Check("serial ports", "ok", ", ".join(ports) or "none are plugged in")


def check_site(broker: str, site: str) -> Iterator[Check]:
    """The broker, and the services and devices that it shows."""
    try:
        with options.rack(broker, site) as rack:
            yield _check_broker(rack)
            yield from _check_services(rack)
            yield from _check_devices(rack)
    except ConfigError as error:
        yield Check("broker", "fail", str(error), "correct --broker, SAT_BROKER_URL or SAT_TLS_CA")
    except Offline as error:
        near = (
            "sat up (everything), or sat broker"
            if find_mosquitto() is None
            else "sat up (everything), or mosquitto"
        )
        yield Check(
            "broker",
            "fail",
            str(error).removesuffix("; see: sat doctor"),
            f"start one: {near}; or name another: --broker URL",
        )


def _check_broker(rack: Rack) -> Check:
    bus = rack.bus
    version = bus.protocol if isinstance(bus, MqttBus) else None
    latency = _echo_ms(rack.requests)
    text = f"{rack.endpoint}, MQTT {version}"
    if latency is None:
        return Check("broker", "warn", f"{text}; it does not pass on what we send to our own reply topic",
                     "let clients read and write sat/1/SITE/reply/CLIENT/# in the broker's access list")  # fmt: skip
    text += f", {latency:.1f} ms there and back"
    if latency > SLOW_MS:
        return Check(
            "broker",
            "warn",
            text,
            "slow; is the network, or set_tcp_nodelay in mosquitto.conf, at fault?",
        )
    return Check("broker", "ok", text)


def _echo_ms(requests: Requester) -> float | None:
    """Milliseconds to the broker and back, the best of three; None when nothing comes back."""
    best = None
    for turn in range(3):
        heard = threading.Event()
        began = time.perf_counter()
        if not requests.echo(f"doctor-{turn}", heard.set) or not heard.wait(ECHO_TIMEOUT):
            return best
        took = (time.perf_counter() - began) * 1000
        best = took if best is None else min(best, took)
    return best


def _check_services(rack: Rack) -> Iterator[Check]:
    orchestrator = rack.orchestrator
    if orchestrator is None or orchestrator.state == "offline":
        state = "is offline" if orchestrator else f"was never seen on site {rack.site}"
        yield Check("orchestrator", "fail", f"it {state}", "start it: sat orchestrator")
    else:
        level: Level = "ok" if orchestrator.state == "ready" else "warn"
        yield Check(
            "orchestrator",
            level,
            f"{orchestrator.state}, epoch {orchestrator.epoch}",
            "it is still starting; look again",
        )
    hosts = rack.hosts()
    if not hosts:
        yield Check(
            "hosts",
            "fail",
            f"no driver host was ever seen on site {rack.site}",
            "start one: sat host --family can",
        )
    for host in hosts.values():
        broken = (
            [f"{d.name}: {d.error}" for d in host.birth.drivers if d.error] if host.birth else []
        )
        name = f"host {host.name}"
        family = host.birth.family if host.birth else "?"
        if not host.alive:
            yield Check(
                name,
                "fail",
                host.state,
                f"start it on its machine: sat host --family {family} --name {host.name}",
            )
        elif broken:
            yield Check(name, "warn", "; ".join(broken), "mend the plugin and start the host again")
        else:
            yield Check(name, "ok", f"{host.state}, family {family}")


def _check_devices(rack: Rack) -> Iterator[Check]:
    for device in rack.devices():
        status = device.status
        why = status.reason if status else ""
        if device.state == "error":
            yield Check(
                f"device {device.id}",
                "fail",
                f"error: {why}",
                f"sat info {device.key}; sat set {device.key} connected",
            )
        elif device.quality == "lost":
            yield Check(
                f"device {device.id}",
                "warn",
                f"lost with its host {device.host}",
                f"start the host {device.host}",
            )
        else:
            yield Check(f"device {device.id}", "ok", f"{device.state}{f': {why}' if why else ''}")
