"""The full name of a device on a site, and how people name one: by id, ``driver/device`` or
``host/driver/device``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from sat_toolkit.errors import BadArgs, UnknownDevice

_SHOWN = 10


class Key(NamedTuple):
    """A device's full name on a site. Keys sort by host, then driver, then device."""

    host: str
    driver: str
    device: str

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def names(self) -> tuple[str, str, str]:
        """What people may call it, the shortest first."""
        return self.device, f"{self.driver}/{self.device}", str(self)


def find(
    keys: Iterable[Key], name: str, *, host: str | None = None, driver: str | None = None
) -> Key | None:
    """The one device of `keys` that `name` means; None when there is no such device. An id
    outweighs a longer name.

    Raises:
        BadArgs: several answer to it; the message lists them.
    """
    scope = [key for key in keys if host in (None, key.host) and driver in (None, key.driver)]
    exact = [key for key in scope if key.device == name]
    hits = exact or [key for key in scope if name in key.names]
    if len(hits) > 1:
        listed = ", ".join(str(key) for key in sorted(hits)[:_SHOWN])
        raise BadArgs(
            f"{name} is the name of {len(hits)} devices: {listed}; give host and driver too"
        )
    return hits[0] if hits else None


def unknown(
    keys: Iterable[Key], name: str, *, host: str | None = None, driver: str | None = None
) -> UnknownDevice:
    """The error for a device that is not among `keys`; it names those that come near."""
    known = sorted(keys)
    forms = {form: key for key in known for form in key.names}
    near = {forms[form]: None for form in difflib.get_close_matches(name, forms, n=3)}
    where = "".join(f" of {part}" for part in (driver, host) if part)
    if near:
        hint = f"did you mean {', '.join(str(key) for key in near)}?"
    elif known:
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        hint = f"known are {', '.join(str(key) for key in known[:_SHOWN])}{more}"
    else:
        hint = "no device is known; plug one in, or scan"
    return UnknownDevice(f"Device {name}{where} not found; {hint}")
