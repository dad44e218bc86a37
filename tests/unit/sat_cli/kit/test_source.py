"""The parsed source of a driver: its classes, with their bases beside it."""

from __future__ import annotations

import ast
from pathlib import Path

from sat_cli.kit.check import check_source
from sat_cli.kit.findings import failed
from sat_cli.kit.source import DriverSource, Module, drivers_of
from tests.unit.sat_cli.kit.sources import faults, without


def test_hooks_of_a_base_class_beside_the_driver_count(driver: Path) -> None:
    """The whole class moves to a helper module; what is left derives from it."""
    driver.with_name("common.py").write_text(driver.read_text())
    driver.write_text(
        "from plugins.devices.probe.common import ProbeDriver\n\n\nclass Better(ProbeDriver):\n    scan_period = 3.0\n"
    )
    assert faults(driver) == []
    without(driver.with_name("common.py"), "_reset_impl")
    (fault,) = faults(driver)
    assert fault.text == "class Better has no _reset_impl"


def test_of_an_unknown_base_class_nothing_is_assumed(driver: Path) -> None:
    text = driver.read_text().replace("(BaseDeviceDriver)", "(SomeDriver)")
    driver.write_text(
        text.replace("import logging", "import logging\nfrom decimal import SomeDriver")
    )
    without(driver, "_reset_impl")
    assert not failed(check_source(driver))


def drivers(path: Path, text: str) -> list[DriverSource]:
    path.write_text(text)
    return drivers_of(Module(path))


def value_of(driver: DriverSource, name: str) -> object:
    found = driver.attribute(name)
    assert found is not None
    return ast.literal_eval(found[1])


BASE = "from sat_toolkit.core.base_plugin import BaseDeviceDriver as Base\n\n"


def test_a_class_that_another_one_of_the_file_derives_from_is_no_driver(tmp_path: Path) -> None:
    (driver,) = drivers(
        tmp_path / "drv_x.py",
        BASE + "class Common(Base):\n    unit = 'V'\n\n\nclass X(Common):\n    unit = 'A'\n",
    )
    assert driver.node.name == "X"
    assert [node.name for _, node in driver.chain] == ["X", "Common"]
    assert driver.known
    assert driver.derives


def test_an_attribute_is_that_of_the_most_derived_class_or_of_the_constructor(
    tmp_path: Path,
) -> None:
    (driver,) = drivers(
        tmp_path / "drv_x.py",
        BASE
        + "class Common(Base):\n    unit = 'V'\n    def __init__(self):\n        self.port = 5\n\n\n"
        "class X(Common):\n    unit = 'A'\n",
    )
    assert value_of(driver, "unit") == "A"
    assert value_of(driver, "port") == 5
    assert driver.attribute("nothing") is None


def test_names_are_followed_to_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "lab" / "drv_x.py"
    path.parent.mkdir()
    path.write_text("import a.b as c\nfrom . import near\nfrom .wire import Link\nimport d.e\n")
    origins = Module(path).origins
    assert origins == {
        "c": "a.b",
        "near": "plugins.devices.lab.near",
        "Link": "plugins.devices.lab.wire.Link",
        "d": "d",
    }
    assert Module(path).dotted(ast.parse("c.D[int]", mode="eval").body) == "a.b.D"
