"""`DriverConformance`: derive from it, name your driver, and pytest holds it to every rule.

    class TestMyDriver(DriverConformance):
        driver = Path(__file__).parent / "drv_mine.py"

The only module here that needs pytest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.testing.bench import Bench, Rig, Subject, subject_of
from sat_toolkit.testing.rules import RULES, Rule


class DriverConformance:
    """One test for each rule of `sat_toolkit.testing.rules`.

    Your own tests in the derived class may use the fixtures `bench` and `rig`, a connected device.

    Attributes:
        driver: the driver's class, or the path of its file.
        simulator: gives the context in which the device is there ; a function without arguments.
            Left out, it is the `simulator` of the ``sim_*.py`` beside the driver's file, unless
            `info` is set.
        info: the driver's configuration, to test without a simulator.
        device_id: the device to use; by default the first that a scan finds.
        arguments: command -> args, for commands that cannot be called without.
        frames_within: seconds in which a started stream must bring a frame; None where a device may
            be silent.
        exempt: rule -> why it does not apply to this driver; the rule's test is left out.
    """

    driver: ClassVar[type[BaseDeviceDriver] | Path | str]
    simulator: ClassVar[Any] = None
    info: ClassVar[Mapping[str, Any] | None] = None
    device_id: ClassVar[str | None] = None
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    frames_within: ClassVar[float | None] = 5.0
    exempt: ClassVar[Mapping[str, str]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each rule; `exempt` names rules that exist."""
        if "rule" not in metafunc.fixturenames:
            return
        unknown = set(self.exempt) - {rule.name for rule in RULES}
        if unknown:
            raise pytest.UsageError(
                f"{metafunc.cls}: exempt names no rule: {', '.join(sorted(unknown))}"
            )
        rules = [rule for rule in RULES if rule.name not in self.exempt]
        metafunc.parametrize("rule", rules, ids=[rule.name.replace(" ", "-") for rule in rules])

    @pytest.fixture
    def subject(self) -> Subject:
        return subject_of(
            self.driver,
            self.info,
            simulator=type(self).simulator,
            device_id=self.device_id,
            arguments=self.arguments,
            frames_within=self.frames_within,
        )

    @pytest.fixture
    def bench(self, subject: Subject) -> Iterator[Bench]:
        """The simulator runs; nothing is connected."""
        with Bench(subject) as bench:
            yield bench

    @pytest.fixture
    def rig(self, bench: Bench) -> Rig:
        """A connected device."""
        return bench.rig().up()

    def test_conforms(self, subject: Subject, rule: Rule) -> None:
        rule.run(Bench(subject))
