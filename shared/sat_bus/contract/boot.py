"""The identity of one start of a service: ``<UTC ms>-<random>``. PURE: clock and randomness are
arguments."""

from __future__ import annotations

import re

from sat_toolkit.errors import BadRequest

_BOOT = re.compile(r"([0-9]{1,15})-([0-9a-f]{1,32})")


def new_boot(now_ms: int, random: bytes) -> str:
    """The boot of a service that starts at `now_ms` (milliseconds since the Unix epoch, UTC).

    Args:
        now_ms: the time of the start.
        random: 1 to 16 bytes that tell two starts in one millisecond apart.

    Raises:
        ValueError: `random` has another length.
    """
    if not 1 <= len(random) <= 16:
        raise ValueError(f"{len(random)} random bytes; 1 to 16 are accepted")
    return f"{now_ms}-{random.hex()}"


def boot_time(boot: str) -> int:
    """When the service of `boot` was started, in milliseconds since the Unix epoch.

    Raises:
        BadRequest: `boot` is not a boot id.
    """
    hit = _BOOT.fullmatch(boot)
    if hit is None:
        raise BadRequest(f"the boot {boot[:80]!r}: <UTC ms>-<random hex digits> is accepted")
    return int(hit[1])


def is_newer(boot: str, other: str) -> bool:
    """Whether `boot` was started after `other`; of two in one millisecond the greater text counts
    as newer, so that both sides come to the same verdict.

    Raises:
        BadRequest: one of them is no boot.
    """
    return (boot_time(boot), boot) > (boot_time(other), other)
