"""What a test rack imports: `Rack`, its devices, their streams and the errors they raise."""

from sat_bus.contract.device_key import Key
from sat_client.batches import Batch
from sat_client.device import Device
from sat_client.gaps import Gap
from sat_client.rack import Rack
from sat_client.requests import Offline
from sat_client.sending import Failed, Sent
from sat_client.streams import Frames, Received, Watch
from sat_client.view import HostView
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import SatError

__all__ = [
    "Batch", "Device", "DeviceState", "Failed", "Frames", "Gap", "HostView", "Key", "Offline", "Rack", "Received",
    "SatError", "Sent", "Watch",
]  # fmt: skip
