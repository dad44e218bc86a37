"""What a start says of the delivery of streams, taken out of a command's args before the plugin
sees them. PURE.

Of the host alone: a worker, which starts for each device, has no need of the contract's models.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from sat_bus.contract.messages import DeliveryArgs, explain
from sat_host.delivery import DeliveryChanges
from sat_toolkit.core.commands import Command
from sat_toolkit.errors import BadArgs

_ABOUT = (
    'how frames are delivered: formats such as ["json", "bin"], window_ms for which they are gathered, max_hz of each '
    'arbitration id, as one figure or as {"0x123": 10}'
)


def take_delivery(
    command: Command, streams: Collection[str], args: Mapping[str, Any]
) -> tuple[dict[str, Any], DeliveryChanges]:
    """The args of a start command without its ``stream``, and that; a driver that declares one of
    its own keeps it.

    Raises:
        BadArgs: a delivery that makes no sense, or that none of the device's `streams` can have.
    """
    if not _takes_delivery(command, streams):
        return dict(args), DeliveryChanges()
    rest = {name: value for name, value in args.items() if name != "stream"}
    try:
        delivery = DeliveryArgs.model_validate(args.get("stream", {}))
    except ValidationError as error:
        raise BadArgs(
            f"stream: {explain(error)}; accepted: {', '.join(DeliveryArgs.model_fields)}"
        ) from None
    if delivery.formats == ["bin"] and "can" not in streams:
        raise BadArgs(
            f"stream.formats: bin is for CAN streams, this device has {', '.join(streams)}; json is accepted"
        )
    formats = None if delivery.formats is None else tuple(delivery.formats)
    return rest, DeliveryChanges(formats, delivery.window_ms, delivery.max_hz)


def with_delivery(command: Command, streams: Collection[str]) -> dict[str, Any]:
    """The JSON Schema of a command's args, with the ``stream`` that the host takes out of them."""
    schema = command.parameters
    if not _takes_delivery(command, streams):
        return schema
    return {**schema, "properties": {**schema.get("properties", {}), "stream": _delivery_schema()}}


def _takes_delivery(command: Command, streams: Collection[str]) -> bool:
    return (
        command.name == "start"
        and bool(streams)
        and "stream" not in command.parameters.get("properties", {})
    )


@cache
def _delivery_schema() -> dict[str, Any]:
    return {**DeliveryArgs.model_json_schema(), "description": _ABOUT}
