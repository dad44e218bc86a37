"""One driver instance for one device: call its hooks, and say what each failure means.

The worker process of a driver host and the in-process backend run the same `DriverRunner`, so that
a driver behaves the same in both. It holds no lifecycle state and starts no threads. One operation
at a time: the caller sees to that.

What an operation raises tells the caller what becomes of the device:

- `DriverError` that is no `CommandFailed`: the device goes to ERROR, the text is the reason;
- any other `SatError` (`CommandFailed`, `BadArgs`, `UnknownCommand`, ...): it keeps its state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from sat_toolkit.core import commands
from sat_toolkit.core.base_plugin import BaseDeviceDriver, call_command, run_command
from sat_toolkit.core.commands import Command
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.jsonable import jsonable
from sat_toolkit.core.stream_manager import StreamData, StreamSink
from sat_toolkit.errors import CommandFailed, DriverError, Internal, SatError, text_of
from sat_toolkit.models.Device_Model import Device

log = logging.getLogger(__name__)


class DriverRunner:
    """A driver instance and its device.

    Args:
        driver_class: what `plugin_loader.load_driver` returned.
        info: the driver's configuration, handed over by `update_info` after construction.
        device: the scanned device; None for an instance that only scans.
        sink: where the driver's streams go.
        on_acquisition_failed: called with the reason, on the dead loop's thread; the stream is
            closed by then and the device should go to ERROR.
        on_event: called with a name and its fields when the driver reports an event, on the
            driver's thread.

    Raises:
        DriverError: the driver's constructor or `update_info` failed.
    """

    def __init__(
        self,
        driver_class: type[BaseDeviceDriver],
        info: Mapping[str, Any] | None = None,
        device: Device | None = None,
        *,
        sink: StreamSink | None = None,
        on_acquisition_failed: Callable[[str], None] | None = None,
        on_event: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        self.device = device
        self._rescan_due = driver_class.rescan_in_worker
        try:
            self.driver = driver_class()
            self.driver.update_info(dict(info or {}))
            self.driver.stream_manager.sink = sink
            self.driver.on_acquisition_failed = on_acquisition_failed
            self.driver.on_event = on_event
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _failed(f"{driver_class.__name__} cannot be made", error) from error

    @property
    def acquiring(self) -> bool:
        """Whether an acquisition runs."""
        return self.driver.is_acquiring.is_set()

    def commands(self) -> dict[str, Command]:
        """What the driver declares.

        Raises:
            PluginError: the declaration makes no sense.
        """
        return commands.declared(self.driver)

    def scan(self) -> list[Device]:
        """The devices that are there, each id once; what is no usable Device is logged and left
        out.

        Raises:
            DriverError: the scan failed.
        """
        try:
            found = self.driver.scan()
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _failed("Scan failed", error) from error
        self._rescan_due = False
        devices: dict[str, Device] = {}
        for device in found:
            device_id = device.device_id if isinstance(device, Device) else None
            if not _is_id(device_id) or device_id in devices:
                log.warning(
                    "%s: its scan's %r is no Device with an id of its own", self._name, device
                )
            else:
                devices[device_id] = device
        return list(devices.values())

    def initialize(self) -> None:
        """Initialise the device.

        An instance that did not scan does so first where its class asks for it
        (`rescan_in_worker`), and goes on with its own Device object if it finds the device: that is
        how handles kept from a scan get here.

        Raises:
            DriverError: it failed.
        """
        if self._rescan_due:
            self._rescan()
        self._lifecycle("Initialization failed", self.driver.initialize)

    def connect(self) -> None:
        """Connect the device.

        Raises:
            DriverError: it failed.
        """
        self._lifecycle("Connection failed", self.driver.connect)

    def reset(self) -> None:
        """Stop the stream and reset the device.

        Raises:
            DriverError: it failed.
        """
        self._stop_stream()
        self._lifecycle("Reset failed", self.driver.reset)

    def close(self) -> None:
        """Stop the stream and close the device.

        Raises:
            DriverError: it failed.
        """
        self._stop_stream()
        self._lifecycle("Close failed", self.driver.close)

    def command(
        self, name: str, args: Mapping[str, Any] | None = None, *, checked: bool = False
    ) -> Any:
        """Run one command; the result is plain JSON (`jsonable`). `checked`: the args have been, by
        whoever passes them on.

        Raises:
            UnknownCommand, BadArgs: refused, nothing was run.
            CommandFailed: it failed, the device keeps its state. So does any other SatError that
                the driver raised by itself.
            DriverError: it failed and the device goes to ERROR.
        """
        device = self._device()
        try:
            call = run_command if checked else call_command
            return jsonable(call(self.driver, device, name, dict(args or {})))
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _of_command(error) from error

    def client_data(self, stream_data: StreamData) -> None:
        """Hand over data that a client sent to the device.

        Raises:
            SatError: as `command`.
        """
        device = self._device()
        try:
            self.driver._client_data_impl(device, stream_data)
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _of_command(error) from error

    def client_frames(self, block: FrameBlock) -> dict[str, Any]:
        """Hand over CAN frames that a client sent; what became of them: ``{"sent": n, "failed":
        [...]}``.

        Raises:
            SatError: as `command`.
        """
        device = self._device()
        try:
            return dict(jsonable(self.driver._client_frames_impl(device, block)) or {})
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _of_command(error) from error

    @property
    def _name(self) -> str:
        return self.driver.driver_name

    def _device(self) -> Device:
        if self.device is None:
            raise Internal("this driver instance was made for scanning and has no device")
        return self.device

    def _rescan(self) -> None:
        device = self._device()
        try:
            found = {candidate.device_id: candidate for candidate in self.scan()}
        except DriverError as error:
            log.warning("%s: scanning again before initialize: %s", self._name, error)
            return
        if device.device_id in found:
            self.device = found[device.device_id]
            self.device.host = device.host

    def _lifecycle(self, failure: str, operation: Callable[[Device], bool]) -> None:
        device = self._device()
        try:
            done = operation(device)
        except BaseException as error:  # a plugin may raise anything, SystemExit too
            raise _failed(failure, error) from error
        if not done:
            raise DriverError(failure)

    def _stop_stream(self) -> None:
        """A driver that overrides close or reset may leave its stream running; this does not."""
        if not self.acquiring:
            return
        try:
            self.driver.stop_streaming(self._device())
        except BaseException as error:  # noqa: BLE001 - the operation itself comes next, in any case
            log.warning(
                "%s: stopping the stream failed: %s: %s", self._name, type(error).__name__, error
            )


def _is_id(value: Any) -> TypeGuard[str]:
    """Whether `value` can name a device: some text that has a UTF-8 form."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


def _failed(what: str, error: BaseException) -> DriverError:
    """`error` as the device's way to ERROR."""
    if isinstance(error, SatError):
        return DriverError(f"{what}: {error}")
    return DriverError(f"{what}: {text_of(error)}")


def _of_command(error: BaseException) -> SatError:
    """What a command's exception means; see the module's docstring."""
    if isinstance(error, SatError) and not isinstance(error, Internal):
        return error
    if isinstance(error, ValueError | TimeoutError):
        return CommandFailed(text_of(error).partition(": ")[2] or type(error).__name__)
    return DriverError(text_of(error))
