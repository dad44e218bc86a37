"""Settings and where they come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sat_toolkit.errors import ConfigError
from tests.unit.sat_bus.service.made import HostSettings


class TestSettings:
    def test_have_defaults(self) -> None:
        settings = HostSettings.load()
        assert (settings.broker_url, settings.site, settings.plugin_folders) == (
            "mqtt://127.0.0.1:1883",
            "lab",
            (),
        )

    def test_flags_win_over_the_environment_over_the_file(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:  # fmt: skip
        assert HostSettings.load(config=config).site == "file"
        monkeypatch.setenv("SAT_CONFIG", str(config))
        assert HostSettings.load().drivers == {"drv_x": {"port": "/dev/a"}}
        monkeypatch.setenv("SAT_SITE", "environment")
        settings = HostSettings.load(site=None)
        assert (settings.site, settings.log_level, settings.count) == ("environment", "debug", 7)
        assert HostSettings.load(site="flag").site == "flag"

    def test_an_empty_variable_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAT_BROKER_URL", "")
        assert HostSettings.load().broker_url == "mqtt://127.0.0.1:1883"

    def test_plugin_folders_are_separated_as_in_a_path(self) -> None:
        assert HostSettings.load(plugins=f"/a{os.pathsep}{os.pathsep}/b").plugin_folders == (
            Path("/a"),
            Path("/b"),
        )

    def test_a_wrong_flag_is_named(self) -> None:
        with pytest.raises(
            ConfigError, match=r"--log-level is 'loud': .*accepted: debug, info, warning or error"
        ):
            HostSettings.load(log_level="loud")

    def test_a_wrong_variable_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAT_SITE", "a/b")
        with pytest.raises(ConfigError, match=r"SAT_SITE is 'a/b': .*accepted: 1 to 64"):
            HostSettings.load()

    def test_a_wrong_line_of_the_file_is_named(self, config: Path) -> None:
        config.write_text('[host]\ncount = "many"')
        with pytest.raises(
            ConfigError, match=rf"count in \[host\] of {config} is 'many': .*a whole number"
        ):
            HostSettings.load(config=config)

    def test_a_variable_that_is_no_json_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAT_DRIVERS", "{nonsense")
        with pytest.raises(ConfigError, match=r"SAT_DRIVERS.*accepted: JSON"):
            HostSettings.load()

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            HostSettings.load(log_level="loud", count="x")
        assert len(str(caught.value).splitlines()) == 2

    def test_a_wrong_broker_url_says_what_is_accepted_and_no_password(self) -> None:
        with pytest.raises(
            ConfigError, match=r"--broker-url: the broker URL .*accepted: mqtt://"
        ) as caught:
            HostSettings.load(broker_url="http://user:hush@host")
        assert "hush" not in str(caught.value)

    def test_a_certificate_file_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"--tls-ca.*no such file"):
            HostSettings.load(tls_ca=tmp_path / "none.pem")

    def test_a_flag_that_is_none_of_ours_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="no such setting: colour"):
            HostSettings.load(colour="red")
