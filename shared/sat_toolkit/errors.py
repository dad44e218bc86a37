"""Every error of the project: one base class, one wire code each, rebuilt by code on the far side.

The codes are those of the bus contract. An error raised in a driver host leaves it as a reply's
``code`` and ``message``, and a client raises the same class again with `from_code`.
"""

# Named after their wire codes, without a suffix.
# ruff: noqa: N818

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The wire codes of a failed request, each with what it tells the caller."""

    BAD_REQUEST = "bad_request"  # the envelope is malformed
    BAD_ARGS = "bad_args"  # the envelope is fine, its args are not
    UNKNOWN_DRIVER = "unknown_driver"  # the host has no such driver; the message names those it has
    UNKNOWN_DEVICE = "unknown_device"  # no scan has found such a device
    UNKNOWN_COMMAND = "unknown_command"  # the driver or service has no such command
    BAD_STATE = "bad_state"  # not allowed in the device's present state
    FENCED = "fenced"  # the caller's epoch is older than one already seen
    BUSY = "busy"  # the queue is full
    EXPIRED = "expired"  # never started
    TIMEOUT = "timeout"  # started, effect unknown
    INDETERMINATE = "indeterminate"  # its fate was lost in a crash
    HOST_LOST = "host_lost"  # the device's host, or the orchestrator, is not there
    DRIVER_ERROR = "driver_error"  # the driver failed, or refused the command
    QUARANTINED = "quarantined"  # the device failed too often and was taken out of use
    DENIED = "denied"  # the caller may not do that
    INTERNAL = "internal"  # a fault of the service itself; its log says more


class SatError(Exception):
    """Base class. ``str(error)`` is the message a person reads; it says what would be accepted."""

    code: Code = Code.INTERNAL
    retryable: bool = False


class BadRequest(SatError):
    code = Code.BAD_REQUEST


class BadArgs(SatError):
    code = Code.BAD_ARGS


class UnknownDriver(SatError):
    code = Code.UNKNOWN_DRIVER


class UnknownDevice(SatError):
    code = Code.UNKNOWN_DEVICE


class UnknownCommand(SatError):
    code = Code.UNKNOWN_COMMAND


class BadState(SatError):
    code = Code.BAD_STATE


class Fenced(SatError):
    code = Code.FENCED


class Busy(SatError):
    code = Code.BUSY
    retryable = True


class Expired(SatError):
    code = Code.EXPIRED
    retryable = True


class Timeout(SatError):
    code = Code.TIMEOUT


class Indeterminate(SatError):
    code = Code.INDETERMINATE


class HostLost(SatError):
    code = Code.HOST_LOST
    retryable = True


class DriverError(SatError):
    """The driver failed; the device goes to ERROR."""

    code = Code.DRIVER_ERROR


class CommandFailed(DriverError):
    """Raised by a driver: this command failed, the device itself is fine and keeps its state."""


class Quarantined(SatError):
    code = Code.QUARANTINED


class Denied(SatError):
    code = Code.DENIED


class Internal(SatError):
    code = Code.INTERNAL


class PluginError(SatError):
    """A plugin cannot be loaded; the message names file, class and reason."""

    code = Code.DRIVER_ERROR


class ConfigError(SatError):
    """A setting is wrong; the message names the setting and what it takes."""

    code = Code.BAD_REQUEST


_BY_CODE: dict[Code, type[SatError]] = {
    cls.code: cls
    for cls in (
        BadRequest, BadArgs, UnknownDriver, UnknownDevice, UnknownCommand, BadState, Fenced, Busy, Expired,
        Timeout, Indeterminate, HostLost, DriverError, Quarantined, Denied, Internal,
    )
}  # fmt: skip


def from_code(code: str, message: str) -> SatError:
    """The error that `code` stands for; an unknown code (a newer peer) becomes `Internal`."""
    try:
        cls = _BY_CODE[Code(code)]
    except ValueError:
        return Internal(f"{code}: {message}")
    return cls(message)


def text_of(error: BaseException) -> str:
    """``Type: message`` of an exception, whatever its own ``__str__`` does; the type alone when it
    says nothing."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a plugin's exception may raise anything when it is asked
        return name
    return f"{name}: {text}" if text else name
