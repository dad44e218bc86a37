"""A driver's events on their way to the host: a burst passes, what is too much is told as a number."""

from __future__ import annotations

from sat_host.wire_messages import DriverReported, EventsDropped, Up
from sat_host.worker.driver_events import DriverEvents
from sat_toolkit.core.driver_events import BURST


class FakeLink:
    def __init__(self) -> None:
        self.sent: list[Up] = []

    def send(self, message: Up) -> None:
        self.sent.append(message)


def test_a_burst_passes_and_the_rest_is_counted() -> None:
    link = FakeLink()
    events = DriverEvents(link)  # type: ignore[arg-type]
    events.report()
    assert link.sent == []
    for number in range(BURST + 5):
        events.tell("moved", {"x": number})
    passed = len(link.sent)
    assert BURST <= passed < BURST + 5
    assert link.sent[0] == DriverReported("moved", {"x": 0})
    events._ration._left = 1.0  # as after a tenth of a second
    events.report()
    assert link.sent[passed:] == [EventsDropped(BURST + 5 - passed)]
