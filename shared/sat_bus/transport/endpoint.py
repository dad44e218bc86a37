"""Where the broker is: the broker URL taken apart. PURE.

``mqtt://host`` (port 1883), ``mqtts://`` (8883, TLS), ``ws://`` (80), ``wss://`` (443, TLS), each
with an optional ``user:password@`` and ``:port``; the WebSocket forms with a path, ``/mqtt`` unless
given.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from sat_toolkit.errors import ConfigError

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
ACCEPTED = "mqtt://, mqtts://, ws:// or wss://, then [user:password@]host[:port], for ws and wss also a /path"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address. `str()` of it holds no password."""

    scheme: str
    host: str
    port: int
    path: str = "/mqtt"
    username: str | None = None
    password: str | None = None

    @property
    def tls(self) -> bool:
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path if self.websocket else ''}"

    def __repr__(self) -> str:
        return f"Endpoint({self})"


def parse_url(url: str) -> Endpoint:
    """The endpoint that `url` names.

    Raises:
        ConfigError: it is no broker URL; the message says what is accepted, and never repeats a
            password.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"the broker URL is wrong ({error}); accepted: {ACCEPTED}") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ConfigError(
            f"the broker URL begins with {parts.scheme + '://'!r}; accepted: {ACCEPTED}"
        )
    if not parts.hostname or port == 0:
        raise ConfigError(f"the broker URL names no host or the port 0; accepted: {ACCEPTED}")
    websocket = parts.scheme in ("ws", "wss")
    if parts.query or parts.fragment or (parts.path not in ("", "/") and not websocket):
        raise ConfigError(
            f"the broker URL has a part after the port that means nothing here; accepted: {ACCEPTED}"
        )
    if parts.password and not parts.username:
        raise ConfigError(f"the broker URL has a password but no user; accepted: {ACCEPTED}")
    return Endpoint(
        parts.scheme,
        parts.hostname,
        port or DEFAULT_PORTS[parts.scheme],
        parts.path if parts.path not in ("", "/") else "/mqtt",
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password is not None else None,
    )
