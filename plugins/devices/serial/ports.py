"""The ports that configuration names: how each is opened. Opens nothing.

A port is an object such as ``{"name": "console", "port": "/dev/ttyUSB0", "baud_rate": 115200}``.
`port` is a path, or a URL: ``rfc2217://host:port`` of a serial server, ``socket://host:port`` of a
raw TCP port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sat_toolkit.errors import ConfigError

URL_SCHEMES: Final = ("rfc2217", "socket")
BYTESIZES: Final = (5, 6, 7, 8)
PARITIES: Final = ("N", "E", "O", "M", "S")
STOPBITS: Final = (1, 1.5, 2)
MAX_BAUD_RATE: Final = 20_000_000
MAX_READ_CHUNK: Final = 16_384

PORT_KEYS: Final = ("name", "port", "baud_rate", "bytesize", "parity", "stopbits", "rtscts", "xonxoff", "dtr", "rts",
                "read_chunk")  # fmt: skip


@dataclass(frozen=True)
class LineSettings:
    """The line: `baud_rate` in bit/s, `parity` N, E, O, M or S, flow control by RTS/CTS or
    XON/XOFF.

    `dtr` and `rts` are the levels of these lines while the port is open; None leaves them to the
    system, which raises both when it opens a port.
    """

    baud_rate: int = 115_200
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    rtscts: bool = False
    xonxoff: bool = False
    dtr: bool | None = None
    rts: bool | None = None

    def __str__(self) -> str:
        """The short form: ``115200 8N1``."""
        flow = "".join(f" {name}" for name in ("rtscts", "xonxoff") if getattr(self, name))
        return f"{self.baud_rate} {self.bytesize}{self.parity}{self.stopbits:g}{flow}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


SETTING_NAMES: Final = tuple(field.name for field in fields(LineSettings))


@dataclass(frozen=True)
class PortConfig:
    """One port. `read_chunk` is the most bytes that one read takes, which bounds a raw frame."""

    name: str
    port: str
    settings: LineSettings = LineSettings()
    read_chunk: int = 4096

    @property
    def is_url(self) -> bool:
        return "://" in self.port

    @property
    def scheme(self) -> str:
        """``rfc2217`` or ``socket``; empty for a path."""
        return self.port.partition("://")[0].lower() if self.is_url else ""

    @property
    def path(self) -> Path | None:
        """The port's file; None for a URL."""
        return None if self.is_url else Path(self.port)

    @property
    def hardware_id(self) -> str:
        """Stays with the name in the configuration: the path of a USB port or pty may be another
        each time."""
        return f"serial:{self.name}"


def parse_ports(info: Mapping[str, Any]) -> list[PortConfig]:
    """The entries of ``info["ports"]``. Raises ConfigError, which names the entry and what it
    takes."""
    entries = info.get("ports", [])
    if not isinstance(entries, list):
        raise ConfigError(f"ports must be a list of objects with name and port, not {entries!r}")
    ports = [_parse_port(f"ports[{index}]", entry) for index, entry in enumerate(entries)]
    names = [port.name for port in ports]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"ports: the name {twice[0]!r} is given twice; each port needs its own")
    return ports


def parse_discover(info: Mapping[str, Any]) -> bool:
    """``info["discover"]``: whether the machine's own ports are listed too. Raises ConfigError."""
    discover = info.get("discover", True)
    if not isinstance(discover, bool):
        raise ConfigError(f"discover must be true or false, not {discover!r}")
    return discover


def _parse_port(where: str, entry: object) -> PortConfig:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be an object with name and port, not {entry!r}")
    name = entry.get("name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigError(f"{where}: name must be a text that is not empty, not {name!r}")
    where = f'{where} ("{name}")'
    if unknown := sorted(str(key) for key in entry if key not in PORT_KEYS):
        raise ConfigError(
            f"{where}: unknown key {unknown[0]!r}; a port takes: {', '.join(PORT_KEYS)}"
        )
    _check_port(where, entry.get("port"))
    read_chunk = entry.get("read_chunk", PortConfig.read_chunk)
    if not _is_int(read_chunk) or not 1 <= read_chunk <= MAX_READ_CHUNK:
        raise ConfigError(
            f"{where}: read_chunk must be 1 to {MAX_READ_CHUNK} bytes, not {read_chunk!r}"
        )
    return PortConfig(name, entry["port"], _parse_settings(where, entry), read_chunk)


def _check_port(where: str, port: object) -> None:
    accepted = 'a path such as "/dev/ttyUSB0", or "rfc2217://host:port", or "socket://host:port"'
    if not isinstance(port, str) or not port:
        raise ConfigError(f"{where}: port must be {accepted}, not {port!r}")
    if "://" not in port:
        if not port.startswith("/"):
            raise ConfigError(
                f"{where}: port must be {accepted}, and a path begins with /, not {port!r}"
            )
        return
    try:
        url = urlsplit(port)
        known = url.scheme in URL_SCHEMES and url.hostname and url.port
    except ValueError:
        known = False
    if not known:
        raise ConfigError(f"{where}: port must be {accepted}, not {port!r}")


def _parse_settings(where: str, entry: Mapping[str, Any]) -> LineSettings:
    given = {name: entry[name] for name in SETTING_NAMES if name in entry}
    baud_rate = given.get("baud_rate", LineSettings.baud_rate)
    if not _is_int(baud_rate) or not 1 <= baud_rate <= MAX_BAUD_RATE:
        raise ConfigError(f"{where}: baud_rate must be bit/s such as 115200, not {baud_rate!r}")
    for name, accepted in (("bytesize", BYTESIZES), ("parity", PARITIES), ("stopbits", STOPBITS)):
        value = given.get(name, getattr(LineSettings, name))
        if isinstance(value, bool) or value not in accepted:
            choice = ", ".join(str(each) for each in accepted)
            raise ConfigError(f"{where}: {name} must be one of {choice}, not {value!r}")
    for name in ("rtscts", "xonxoff", "dtr", "rts"):
        if not isinstance(given.get(name, False), bool):
            raise ConfigError(f"{where}: {name} must be true or false, not {given[name]!r}")
    return LineSettings(**given)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
