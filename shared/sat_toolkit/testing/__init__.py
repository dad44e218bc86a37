"""What a driver's author tests with: fake hardware at the wire, a recorder of streams, a bench for
one driver.

Never imported by a service or a driver; tests and simulators import it. Nothing here needs pytest,
except `sat_toolkit.testing.conformance`, whose `DriverConformance` is the test class to derive
from.
"""

from __future__ import annotations

from sat_toolkit.testing.bench import Bench, Rig, Subject, Violation, subject_of
from sat_toolkit.testing.loading import find_simulator, load
from sat_toolkit.testing.recorder import Recorder
from sat_toolkit.testing.rules import RULES, Rule
from sat_toolkit.testing.wire import Answer, FakeDevice, PtyLine, TcpBus, TcpInstrument

__all__ = [
    "RULES",
    "Answer",
    "Bench",
    "FakeDevice",
    "PtyLine",
    "Recorder",
    "Rig",
    "Rule",
    "Subject",
    "TcpBus",
    "TcpInstrument",
    "Violation",
    "find_simulator",
    "load",
    "subject_of",
]
