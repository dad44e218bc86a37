"""The files of a new plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sat_cli.kit.new import new_plugin
from sat_toolkit.errors import ConfigError
from tests.unit.sat_cli.kit.sources import faults


@pytest.mark.parametrize("name", ["x", "power_supply", "a_name_of_24_characters_"])
def test_the_files_are_named_after_the_driver(tmp_path: Path, name: str) -> None:
    written = new_plugin(name, "lab", tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        f"lab/drv_{name}.py", f"lab/sim_{name}.py", f"lab/test_drv_{name}.py",
    ]  # fmt: skip
    assert not any(re.search("demo", path.read_text(), re.I) for path in written)
    assert faults(written[0]) == []


@pytest.mark.parametrize(
    "name", ["", "9lives", "two words", "Upper", "a" * 25, "class", "socketcan"]
)
def test_a_name_that_will_not_do_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError):
        new_plugin(name, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    written = new_plugin("mine", "lab", tmp_path)
    written[0].write_text("precious")
    with pytest.raises(ConfigError):
        new_plugin("mine", "lab", tmp_path)
    assert written[0].read_text() == "precious"
