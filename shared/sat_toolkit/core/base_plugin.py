"""The base classes of drivers: each public method calls the driver's own `_x_impl` hook.

They keep what every driver needs right (the device, the stream's channel, the acquisition thread)
and hold no lifecycle state: whoever runs the driver does that, see `DriverRunner`. One instance
serves one device.
"""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MethodType
from typing import Any, Literal

from sat_toolkit.core import commands, driver_events
from sat_toolkit.core.acquisition import Acquisition, AcquisitionThread
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.stream_manager import (
    StreamAction,
    StreamData,
    StreamManager,
    StreamSource,
    StreamType,
    StreamWrapper,
    unpacked,
)
from sat_toolkit.errors import BadArgs, CommandFailed, DriverError, text_of
from sat_toolkit.models.Device_Model import Device

log = logging.getLogger(__name__)


class BasePlugin:
    """A plugin and its configuration, `info`."""

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        self.info: dict[str, Any] = dict(info or {})

    def update_info(self, info: Mapping[str, Any]) -> None:
        """Merge `info` into the configuration. It is called once, after construction."""
        self.info.update(info)

    def get_info(self) -> dict[str, Any]:
        """A copy of the configuration."""
        return dict(self.info)


class BaseDeviceDriver(BasePlugin):
    """What a driver derives from.

    A driver implements `_scan_impl`, `_initialize_impl`, `_connect_impl`, `_command_impl`,
    `_reset_impl` and `_close_impl`; one that streams, `_acquisition_loop` too. A falsy result of a
    hook is a failure, except that `_command_impl` may return anything. An exception in
    `_command_impl` puts the device into ERROR, but for `CommandFailed`, `BadArgs`, ValueError and
    TimeoutError, which fail that command only.

    A loop reads ``self.is_acquiring`` each round. A helper thread of the driver's own keeps the
    event that it found at its start (``event = self.is_acquiring``): it is the event of that run,
    and never set again once the run is over.
    """

    # name -> text, or name -> {description, parameters[, timeout_ms]}; may be set on the class.
    supported_commands: dict[str, Any] = {}
    # The streams that this driver offers, for those who look before they start one.
    stream_types: tuple[StreamType, ...] = ()
    # Whether an instance that did not scan scans before its first initialize. A driver that keeps
    # nothing from its scan may set it False.
    rescan_in_worker: bool = True
    # Seconds between two scans of the hardware.
    scan_period: float = 5.0
    # Seconds that a stop waits for the acquisition loop.
    acquisition_join_timeout: float = 2.0

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        super().__init__(info)
        self.device: Device | None = None
        self.supported_commands = copy.copy(type(self).supported_commands)
        self.stream_manager = StreamManager()
        self.stream_wrapper = StreamWrapper(self.stream_manager)
        self.acquisition_thread: threading.Thread | None = None
        # Called with the reason, on the acquisition thread, when a loop ended that nobody stopped.
        self.on_acquisition_failed: Callable[[str], None] | None = None
        # Called with what `report_event` is told, on its caller's thread.
        self.on_event: Callable[[str, dict[str, Any]], None] | None = None
        # What the last dead loop died of.
        self.acquisition_error: BaseException | None = None
        self._acquiring_event: threading.Event = threading.Event()
        self._acquisition: Acquisition | None = None
        self._start_lock = threading.Lock()
        self._scanned: dict[str, Device] = {}

    @property
    def is_acquiring(self) -> threading.Event:
        """Set while the acquisition runs.

        An acquisition thread sees the event of its own run, every other thread that of the present
        one. So a loop that outlived its stop reads a clear event for good.
        """
        thread = threading.current_thread()
        if isinstance(thread, AcquisitionThread) and thread.owner is self:
            return thread.event
        return self._acquiring_event

    @is_acquiring.setter
    def is_acquiring(self, event: threading.Event) -> None:
        self._acquiring_event = event

    @property
    def driver_name(self) -> str:
        """The name of the plugin file without its suffix."""
        return type(self).__module__.rpartition(".")[2]

    # --- what the runner and the driver itself call ------------------------------------------------

    def scan(self) -> list[Device]:
        """The devices that are there now."""
        found: Iterable[Device] | None = self._scan_impl()
        devices = list(found or ())
        self._scanned = {
            device.device_id: device for device in devices if isinstance(device, Device)
        }
        return devices

    def initialize(self, device: Device) -> bool:
        """Initialise `device`, which is this instance's device from now on."""
        self.device = device
        return bool(self._initialize_impl(device))

    def connect(self, device: Device) -> bool:
        """Connect `device`."""
        self.device = device
        return bool(self._connect_impl(device))

    def command(self, device: Device, command: str, args: Mapping[str, Any] | None = None) -> Any:
        """Run one command and return what the hook returns.

        Raises:
            UnknownCommand: not in `supported_commands`.
            BadArgs: `args` do not fit what the command declares.
        """
        if self.device is None:
            self.device = device
        given = dict(args or {})
        commands.check_args(commands.find(self, command), given)
        return _pass_args(self._command_impl, device, command, given)

    def reset(self, device: Device) -> bool:
        """Stop the stream, then reset the device."""
        self._quietly_stop(device)
        return bool(self._reset_impl(device))

    def close(self, device: Device) -> bool:
        """Stop the stream, then close the device."""
        self._quietly_stop(device)
        return bool(self._close_impl(device))

    def get_device(self, device_id: str) -> Device | None:
        """The device of that id, if it is this instance's or was in the last scan."""
        if self.device is not None and self.device.device_id == device_id:
            return self.device
        return self._scanned.get(device_id)

    def get_supported_commands(self) -> dict[str, Any]:
        """A copy of `supported_commands`."""
        return copy.copy(self.supported_commands)

    def report_event(self, event: str, /, **fields: Any) -> None:
        """Tell whoever watches the device that something happened. From any thread.

        On the bus it is the event `driver.<event>` with the fields as its `data`. It is for what
        happens now and then: more than a few in a second are dropped, and counted.

        Raises:
            ValueError: no name of an event, or too many fields; the message says what is accepted.
        """
        data = driver_events.checked(event, fields)
        if self.on_event is None:
            log.info("%s: %s: %s", self.driver_name, event, data)
        else:
            self.on_event(event, data)

    # --- streaming ---------------------------------------------------------------------------------

    def start_streaming(self, device: Device) -> bool:
        """Open the device's channel and start the acquisition."""
        self.stream_wrapper.register_stream(device.device_id)
        try:
            return self.start_acquisition(device)
        except BaseException:
            self.stream_wrapper.unregister_stream(device.device_id)
            raise

    def stop_streaming(self, device: Device) -> bool:
        """Stop the acquisition and close the device's channel. Does nothing when nothing is
        acquired."""
        try:
            return self.stop_acquisition(device)
        finally:
            self.stream_wrapper.unregister_stream(device.device_id)

    def start_acquisition(self, device: Device) -> bool:
        """Set the acquisition up and start its thread; does nothing when one is running.

        Raises:
            DriverError: `_setup_acquisition` returned False.
        """
        with self._start_lock:
            running = self._acquisition
            if running is not None:
                if running.event.is_set():
                    return True
                running.finished.wait(self.acquisition_join_timeout)
            self.device = device
            acquisition = Acquisition(
                self,
                f"{self.driver_name}/acq/{device.device_id}",
                self._acquisition_loop,
                lambda run, reason: self._acquisition_ended(run, device, reason),
            )
            # Before the hook runs, so that a thread started in there gets the event of this run.
            self._acquiring_event = acquisition.event
            self.stream_wrapper.register_stream(device.device_id)
            try:
                # The guide's hook returns None; only an explicit False is a failure.
                if self._setup_acquisition(device) is False:  # type: ignore[func-returns-value]
                    raise DriverError("the setup of the acquisition failed")
            except BaseException:
                acquisition.event.retire()
                self.stream_wrapper.unregister_stream(device.device_id)
                raise
            self._acquisition, self.acquisition_thread = acquisition, acquisition.thread
            try:
                acquisition.start()
            except RuntimeError:  # the system has no more threads
                acquisition.claim()
                self._finish(acquisition, device)
                raise
            return True

    def stop_acquisition(self, device: Device) -> bool:
        """Stop the loop, wait for it up to `acquisition_join_timeout`, clean up, close the channel.

        Does nothing when no acquisition runs. The channel is closed even when the clean-up raises.
        """
        acquisition = self._acquisition
        try:
            if acquisition is None:
                self._stop_own_thread(device)
            elif acquisition.claim():
                self._finish(acquisition, device)
            else:
                acquisition.finished.wait(self.acquisition_join_timeout)
        finally:
            self.stream_wrapper.unregister_stream(device.device_id)
        return True

    def _finish(self, acquisition: Acquisition, device: Device) -> None:
        """End a run that the caller has claimed."""
        try:
            if not acquisition.join(self.acquisition_join_timeout):
                log.warning("%s did not end when it was stopped", acquisition.thread.name)
            self._cleanup_acquisition(device)
        finally:
            self.stream_wrapper.unregister_stream(device.device_id)
            if self._acquisition is acquisition:
                self._acquisition = self.acquisition_thread = None
                self._acquiring_event = threading.Event()
            acquisition.finished.set()

    def _acquisition_ended(
        self, acquisition: Acquisition, device: Device, reason: str | None
    ) -> None:
        """The loop ended by itself; `reason` is None when the driver's own code told it to."""
        if reason is None and type(self).stop_acquisition is not BaseDeviceDriver.stop_acquisition:
            return  # the driver stops its acquisition in its own way, and cleans up there
        try:
            self._finish(acquisition, device)
        except BaseException as error:  # noqa: BLE001 - whatever the clean-up does, the end is told
            failed = f"the clean-up of the acquisition failed: {text_of(error)}"
            reason = f"{reason}; {failed}" if reason else failed
        if reason is not None:
            self.acquisition_error = acquisition.error
            log.error("%s: %s", acquisition.thread.name, reason, exc_info=acquisition.error)
            if self.on_acquisition_failed is not None:
                self.on_acquisition_failed(reason)

    def _stop_own_thread(self, device: Device) -> None:
        """Stop a loop that the driver started itself, by overriding `start_acquisition`."""
        thread = self.acquisition_thread
        was_running = self._acquiring_event.is_set()
        self._acquiring_event.clear()
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(self.acquisition_join_timeout)
        self.acquisition_thread = None
        if was_running:
            self._cleanup_acquisition(device)

    def _quietly_stop(self, device: Device) -> None:
        try:
            self.stop_streaming(device)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - close and reset go on all the same
            log.warning(
                "%s: stopping the stream of %s failed: %s",
                self.driver_name,
                device.device_id,
                error,
            )

    # --- the hooks ---------------------------------------------------------------------------------

    def _scan_impl(self) -> list[Device]:
        raise NotImplementedError(f"{type(self).__name__} has no _scan_impl")

    def _initialize_impl(self, device: Device) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _initialize_impl")

    def _connect_impl(self, device: Device) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _connect_impl")

    def _command_impl(
        self, device: Device, command: str, args: dict[str, Any] | None = None
    ) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _command_impl")

    def _reset_impl(self, device: Device) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _reset_impl")

    def _close_impl(self, device: Device) -> bool:
        raise NotImplementedError(f"{type(self).__name__} has no _close_impl")

    def _setup_acquisition(self, device: Device) -> None:
        """Make ready for the loop. Optional."""

    def _cleanup_acquisition(self, device: Device) -> None:
        """Undo `_setup_acquisition`. Called once for each run, also when the loop died.
        Optional."""

    def _acquisition_loop(self) -> None:
        raise NotImplementedError(
            f"{type(self).__name__} does not stream: it has no _acquisition_loop"
        )

    def wait_for_change(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds; True as soon as devices may have come or gone.

        Optional. Where a driver implements it, the host calls it over and over on a thread of the
        instance that scans, and scans again whenever it answers True. Elsewhere devices are found
        by periodic scans.

        Raises:
            NotImplementedError: the driver has nothing to wait for.
        """
        raise NotImplementedError

    def _client_data_impl(self, device: Device, stream_data: StreamData) -> None:  # noqa: ARG002
        """Take data that a client sent. Unless overridden it waits for `get_client_data()`."""
        self.stream_manager.put_client_data(stream_data)

    def _client_frames_impl(self, device: Device, block: FrameBlock) -> dict[str, Any]:
        """Take CAN frames that a client sent together. Unless overridden each is handed to
        `_client_data_impl`.

        Returns ``{"sent": n, "failed": [{"index", "reason"}, ...]}``.
        """
        failed: list[dict[str, Any]] = []
        frames = unpacked(device.device_id, block, StreamSource.CLIENT, StreamAction.SEND)
        for index, stream_data in enumerate(frames):
            try:
                self._client_data_impl(device, stream_data)
            except (CommandFailed, BadArgs, ValueError, TimeoutError) as error:
                failed.append({"index": index, "reason": str(error)})
        return {"sent": len(block) - len(failed), "failed": failed}


def call_command(
    driver: BaseDeviceDriver, device: Device, command: str, args: Mapping[str, Any]
) -> Any:
    """Call a driver's public `command`, whatever signature a subclass gave it, fully checked.

    Raises:
        UnknownCommand, BadArgs: as `BaseDeviceDriver.command`.
    """
    if type(driver).command is not BaseDeviceDriver.command:
        commands.check_args(commands.find(driver, command), args)
    return _pass_args(driver.command, device, command, dict(args))


def run_command(
    driver: BaseDeviceDriver, device: Device, command: str, args: Mapping[str, Any]
) -> Any:
    """As `call_command`, for args that are checked already.

    Raises:
        UnknownCommand: the driver has none of that name; the message names those it has.
    """
    commands.require(driver, command)
    if type(driver).command is not BaseDeviceDriver.command:
        return _pass_args(driver.command, device, command, dict(args))
    if driver.device is None:
        driver.device = device
    return _pass_args(driver._command_impl, device, command, dict(args))


def _pass_args(
    function: Callable[..., Any], device: Device, command: str, args: dict[str, Any]
) -> Any:
    """Call with `args` in the way that the function takes them: third, by name, spread, or not at
    all."""
    way = _way(getattr(function, "__func__", function), bound=hasattr(function, "__func__"))
    if way == "third":
        return function(device, command, args)
    if way == "named":
        return function(device, command, args=args)
    if way == "spread":
        return function(device, command, **args)
    if args:
        raise BadArgs(f"{command}: the driver takes no args")
    return function(device, command)


@lru_cache(maxsize=256)
def _way(
    function: Callable[..., Any], *, bound: bool
) -> Literal["third", "named", "spread", "none"]:
    """How a function takes the args of a command; `bound`: its first parameter is given already."""
    whole = MethodType(function, object()) if bound else function
    parameters = list(inspect.signature(whole).parameters.values())
    kinds = {parameter.kind for parameter in parameters}
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if (
        inspect.Parameter.VAR_POSITIONAL in kinds
        or sum(p.kind in by_position for p in parameters) > 2
    ):
        return "third"
    if any(parameter.name == "args" for parameter in parameters):
        return "named"
    return "spread" if inspect.Parameter.VAR_KEYWORD in kinds else "none"
