"""Opens and closes its stream as fast as it can."""

from __future__ import annotations

from typing import Any

from plugins.devices.vicious.sick import SickDriver


class EventFloodDriver(SickDriver):
    def sick(self) -> Any:
        while self.is_acquiring.is_set():
            self.stream_wrapper.register_stream("other")
            self.stream_wrapper.unregister_stream("other")
