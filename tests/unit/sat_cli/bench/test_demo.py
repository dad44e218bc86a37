"""What families add to a bench without hardware."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sat_cli.bench.demo import FamilyDemo, load_demo, with_drivers
from sat_toolkit.core.plugin_loader import find_plugins, plugin_folders
from sat_toolkit.errors import ConfigError

RUN = Path("/run/bench")


def write(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "demo.toml").write_text(text)
    return folder


def test_every_shipped_family_has_a_demo_of_its_own() -> None:
    folders = {plugin.path.parent for plugin in find_plugins(plugin_folders())}
    demo = load_demo(folders, RUN)
    assert {simulator.device for simulator in demo.simulators} >= {"ecu", "console"}
    assert len(demo.simulators) >= len(folders)
    text = json.dumps([demo.drivers, [s.args for s in demo.simulators]])
    assert "{runtime}" not in text
    assert "/run/bench/ecu" in text


def test_demos_are_joined_and_a_family_without_one_is_left_alone(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one", '[[simulators]]\ndevice = "a"\nmodule = "m"\n[[policy]]\nmatch = "a"\n'
    )
    two = write(tmp_path / "two", '[drivers.drv_two]\nx = "{runtime}/x"\n[[policy]]\nmatch = "b"\n')
    (tmp_path / "three").mkdir()
    demo = load_demo([two, one, tmp_path / "three"], RUN)
    assert [s.device for s in demo.simulators] == ["a"]
    assert demo.drivers == {"drv_two": {"x": "/run/bench/x"}}
    assert [rule["match"] for rule in demo.policy] == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["[", "surprise = 1", "simulators = 3", '[[simulators]]\ndevice = "a"']
)
def test_a_file_that_says_what_it_cannot_is_named(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "bad", text)
    with pytest.raises(ConfigError, match=r"bad/demo\.toml"):
        load_demo([folder], RUN)


def test_the_demo_joins_what_the_user_has_configured() -> None:
    demo = FamilyDemo(drivers={"drv_can": {"buses": [{"name": "ecu"}], "depth": 1}})
    mine = {"drv_can": {"buses": [{"name": "mine"}], "depth": 2}, "drv_other": {"y": 2}}
    assert with_drivers(json.dumps(mine), demo) == {
        "drv_can": {"buses": [{"name": "mine"}, {"name": "ecu"}], "depth": 2},
        "drv_other": {"y": 2},
    }
    assert with_drivers("", demo) == demo.drivers


@pytest.mark.parametrize("text", ["[]", "{", '{"drv_can": 1}'])
def test_drivers_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="SAT_DRIVERS"):
        with_drivers(text, FamilyDemo())
