"""The settings file: its tables, and that it refuses what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_toolkit.errors import ConfigError
from tests.unit.sat_bus.service.made import HostSettings


def test_a_file_that_is_missing_or_no_toml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: No such file.*TOML"):
        HostSettings.load(config=tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("site = lab")
    with pytest.raises(ConfigError, match=r"broken.toml is no TOML"):
        HostSettings.load(config=broken)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('[bus]\nbroker_ulr = "x"', "broker_ulr in [bus] of {config} is no setting, did you mean broker_url?"),
        ("[host]\ncolour = 1", "colour in [host] of {config} is no setting; it takes "),
        ('[host]\nsite = "x"', "site in [host] of {config} belongs in [bus]"),
        ('[bus]\ndrivers = {}', "drivers in [bus] of {config} belongs in [drivers]"),
        ("[hots]\ncount = 1", "hots in {config} is no table of a settings file, did you mean [host]?; it "),
        ("bus = 5", "bus in {config} is 5; it is a table: [bus]"),
    ],
)  # fmt: skip
def test_what_the_file_must_not_have_is_refused(config: Path, line: str, told: str) -> None:
    config.write_text(line)
    with pytest.raises(ConfigError) as caught:
        HostSettings.load(config=config)
    assert str(caught.value).startswith(told.format(config=config))


def test_an_old_file_without_tables_is_told_its_new_place(config: Path) -> None:
    config.write_text('site = "lab"\ncount = 7\n[drivers.drv_x]\nport = "/dev/a"\n')
    with pytest.raises(ConfigError) as caught:
        HostSettings.load(config=config)
    assert str(caught.value).splitlines() == [
        f"site in {config} stands in no table; write site under [bus]",
        f"count in {config} stands in no table; write count under [host]",
    ]


def test_the_tables_of_other_services_are_left_alone(config: Path) -> None:
    config.write_text("[orchestrator]\nof_another = 1\n[host]\ncount = 7\n")
    assert HostSettings.load(config=config).count == 7
