"""CAN frames to a device in packed batches, and what became of each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sat_bus.contract import bin_batch
from sat_bus.transport.bus import Bus
from sat_client.requests import Offline, Requester, check
from sat_toolkit.core.frame_block import FrameBlock
from sat_toolkit.errors import BadArgs, SatError

_HEADER = 1_024  # more than the header of such a batch ever is


@dataclass(frozen=True)
class Failed:
    """The frame at `index` of those that were to be sent was not sent, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Sent:
    """What became of frames: how many were sent, and each that was not."""

    sent: int
    failed: tuple[Failed, ...]


def packed(frames: FrameBlock | Iterable[Mapping[str, Any]]) -> FrameBlock:
    """`frames` as a block.

    Raises:
        BadArgs: one of them is no CAN frame; the message says which.
    """
    if isinstance(frames, FrameBlock):
        return frames
    try:
        return FrameBlock.pack(frames)
    except ValueError as error:
        raise BadArgs(str(error)) from None


def send_packed(
    bus: Bus,
    requests: Requester | None,
    topic: str,
    block: FrameBlock,
    *,
    host: str,
    timeout: float,
) -> Sent | None:
    """Send `block` to `topic`, in as many batches as it takes; with `requests` wait for the answer
    to each.

    Raises:
        SatError: a batch was refused, or no answer came; what follows it is not sent.
    """
    sent, failed = 0, []
    for start, part in _parts(block):
        try:
            result = _send(bus, requests, topic, part, host, timeout)
        except SatError as error:
            error.add_note(f"{start} of {len(block)} frames were in the batches before")
            raise
        if result is not None:
            sent += result.sent
            failed += [Failed(start + one.index, one.reason) for one in result.failed]
    return Sent(sent, tuple(failed)) if requests is not None else None


def _send(
    bus: Bus, requests: Requester | None, topic: str, part: FrameBlock, host: str, timeout: float
) -> Sent | None:
    if requests is None:
        if not bus.publish(topic, bin_batch.encode({}, part)):
            raise Offline(
                "not connected to the broker, or its queue is full; this batch was not sent"
            )
        return None
    reply = check(requests.exchange_packed(topic, part, timeout=timeout, target=host))
    result = reply.result if isinstance(reply.result, dict) else {}
    failures = tuple(
        Failed(int(one["index"]), str(one["reason"])) for one in result.get("failed", ())
    )
    return Sent(int(result.get("sent", 0)), failures)


def _parts(block: FrameBlock) -> Iterator[tuple[int, FrameBlock]]:
    most = min(bin_batch.MAX_FRAMES, (bin_batch.MAX_BYTES - _HEADER) // block.size)
    for start in range(0, len(block), most):
        yield start, block[start : start + most]
