"""How people name devices: by id, by ``driver/device`` or by ``host/driver/device``. PURE."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from sat_bus.contract.messages import DeviceArgs
from sat_orchestrator.fleet.table import Key
from sat_toolkit.errors import BadArgs, UnknownDevice

_SHOWN = 10


def find(keys: Iterable[Key], wanted: DeviceArgs) -> Key | None:
    """The one device of `keys` that `wanted` names; None when there is none.

    Raises:
        BadArgs: several answer to it; the message lists them.
    """
    scope = [
        key for key in keys
        if wanted.host in (None, key.host) and wanted.driver in (None, key.driver)
    ]  # fmt: skip
    exact = [key for key in scope if key.device == wanted.device]
    hits = exact or [key for key in scope if wanted.device in (f"{key.driver}/{key.device}", str(key))]
    if len(hits) > 1:
        listed = ", ".join(str(key) for key in sorted(hits)[:_SHOWN])
        raise BadArgs(f"{wanted.device} is the name of {len(hits)} devices: {listed}; give host and driver too")
    return hits[0] if hits else None


def unknown(keys: Iterable[Key], wanted: DeviceArgs) -> UnknownDevice:
    """The error for a device that nobody knows; it names those that come near."""
    known = sorted(keys)
    forms = {form: key for key in known for form in (key.device, f"{key.driver}/{key.device}", str(key))}
    near = {forms[form]: None for form in difflib.get_close_matches(wanted.device, forms, n=3)}
    where = "".join(f" of {part}" for part in (wanted.driver, wanted.host) if part)
    if near:
        hint = f"did you mean {', '.join(str(key) for key in near)}?"
    elif known:
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        hint = f"known are {', '.join(str(key) for key in known[:_SHOWN])}{more}"
    else:
        hint = "no device is known; plug one in, or scan"
    return UnknownDevice(f"Device {wanted.device}{where} not found; {hint}")
