"""Client data on its way to a driver, inside a worker: on a thread of its own, so that no long
command holds it up."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

from sat_host.wire_messages import Answer, InputFailed, Refusal
from sat_host.worker.link import HostLink
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.core.stream_manager import StreamAction, StreamData, StreamSource, StreamType
from sat_toolkit.errors import Busy, Code, SatError

INPUT_LENGTH = 1024
REPORT_PERIOD = 0.1
TOO_SLOW = "the device takes its data too slowly"


class Feeder:
    """Takes what clients sent, and tells the host what was lost, and what became of each block."""

    def __init__(self, runner: DriverRunner, device_id: str, link: HostLink) -> None:
        self._runner = runner
        self._device_id = device_id
        self._link = link
        self._inputs: queue.Queue[StreamData | tuple[int, FrameBlock] | None] = queue.Queue(
            INPUT_LENGTH
        )
        self._failures = _Failures()
        self._thread = threading.Thread(target=self._feed, name=f"input/{device_id}", daemon=True)
        self._thread.start()

    def put_items(self, stream: str, items: list[dict[str, Any]]) -> None:
        """Items of ``in/<stream>/json``; those for which there is no room are counted."""
        dropped = 0
        for item in items:
            try:
                self._inputs.put_nowait(_client_data(stream, self._device_id, item))
            except queue.Full:
                dropped += 1
        if dropped:
            self._failures.add(Code.BUSY, TOO_SLOW, dropped)

    def put_block(self, number: int, block: FrameBlock) -> None:
        """Frames of ``in/can/bin``, and the number of the host's call, which is answered when they
        are sent."""
        try:
            self._inputs.put_nowait((number, block))
        except queue.Full:
            self._link.send(_refused(number, Busy(TOO_SLOW)))

    def stop(self) -> None:
        """End the thread as soon as it has a look."""
        try:
            self._inputs.put_nowait(None)
        except queue.Full:
            return  # a daemon thread ends with the process

    def _feed(self) -> None:
        while True:
            try:
                item = self._inputs.get(timeout=REPORT_PERIOD)
            except queue.Empty:
                self._report()
                continue
            if item is None:
                return
            if isinstance(item, StreamData):
                try:
                    self._runner.client_data(item)
                except SatError as error:
                    self._failures.add(error.code, str(error), 1)
            else:
                self._link.send(self._sent(*item))
            self._report()

    def _sent(self, number: int, block: FrameBlock) -> Answer | Refusal:
        try:
            return Answer(number, self._runner.client_frames(block))
        except SatError as error:
            return _refused(number, error)

    def _report(self) -> None:
        if (event := self._failures.due(time.monotonic())) is not None:
            self._link.send(event)


class _Failures:
    """Client data that was lost, told to the host now and then and not one by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._code = Code.BUSY
        self._reason = ""
        self._count = 0
        self._told = 0.0

    def add(self, code: Code, reason: str, count: int) -> None:
        """Count `count` items lost; the latest reason stands for all."""
        with self._lock:
            self._code, self._reason = code, reason
            self._count += count

    def due(self, now: float) -> InputFailed | None:
        """What was counted since the last time, unless that was just now."""
        with self._lock:
            if not self._count or now - self._told < REPORT_PERIOD:
                return None
            event = InputFailed(self._code, self._reason, self._count)
            self._count, self._told = 0, now
        return event


def _refused(number: int, error: SatError) -> Refusal:
    return Refusal(number, error.code, str(error))


def _client_data(stream: str, channel: str, item: dict[str, Any]) -> StreamData:
    """An item of ``in/<stream>/json`` as a driver gets it: the ``data`` of a StreamData, or a frame
    itself."""
    try:
        kind = StreamType(stream)
    except ValueError:
        kind = StreamType.CUSTOM
    wrapped = "action" in item or "stream_type" in item
    return StreamData(
        stream_type=kind,
        channel=channel,
        timestamp=float(item.get("timestamp") or time.time()),
        source=StreamSource.CLIENT,
        action=StreamAction(item.get("action", "send")),
        data=item.get("data") if wrapped else item,
        metadata=item.get("metadata") if wrapped else None,
    )
