"""Tests of drv_demo on its simulator: what every driver has to hold, and what this one is for.

To make it yours, change the tests at the end: one for each of your commands, one for what the stream carries.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_toolkit.errors import BadArgs
from sat_toolkit.testing import Rig
from sat_toolkit.testing.conformance import DriverConformance


class TestDemo(DriverConformance):
    """The rules of sat_toolkit.testing, on the simulator that lies beside the driver.

    `rig` in the tests below is a connected device on that simulator.
    """

    driver = Path(__file__).with_name("drv_demo.py")

    def test_the_setpoint_is_what_is_measured(self, rig: Rig) -> None:
        assert rig.command("set", value=42) == {"setpoint": 42}
        assert rig.command("read")["value"] == pytest.approx(42, abs=0.2)

    def test_a_setpoint_out_of_range_never_reaches_the_instrument(self, rig: Rig) -> None:
        with pytest.raises(BadArgs, match="maximum of 100"):
            rig.command("set", value=1000)
        assert rig.command("status")["setpoint"] == 20

    def test_the_stream_carries_values(self, rig: Rig) -> None:
        rig.start()
        values = [frame.data["value"] for frame in rig.recorder.wait_frames(3)]
        assert values == pytest.approx([20, 20, 20], abs=0.2)
