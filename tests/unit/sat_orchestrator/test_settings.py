"""The orchestrator's settings: where they come from and what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from sat_orchestrator.settings import OrchestratorSettings
from sat_toolkit.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLICY", "DATABASE_URL", "SCAN_PERIOD_S", "SITE", "CONFIG", "RECOVERY_LIMIT"):
        monkeypatch.delenv(f"SAT_{name}", raising=False)


def test_the_database_is_a_file_of_the_site_in_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert OrchestratorSettings.load(site="rack7").database == f"sqlite:///{tmp_path}/sat/rack7.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/does/not/count")
    monkeypatch.setenv("HOME", "/home/ann")
    assert OrchestratorSettings.load().database == "sqlite:////home/ann/.local/state/sat/lab.db"
    monkeypatch.setenv("SAT_DATABASE_URL", "sqlite:////srv/sat.db")
    assert OrchestratorSettings.load().database == "sqlite:////srv/sat.db"


def test_policy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SAT_POLICY", '[{"match": "can*", "level": "connected", "streams": {"can": {}}}]'
    )
    (rule,) = OrchestratorSettings.load().policy
    assert (rule.match, rule.level, rule.streams) == ("can*", "connected", {"can": {}})


def test_policy_from_a_file(tmp_path: Path) -> None:
    config = tmp_path / "sat.toml"
    config.write_text(
        "[orchestrator]\nscan_period_s = 5\n"
        '[[orchestrator.policy]]\nmatch = "drv_uart/*"\nlevel = "initialized"\n'
        '[[orchestrator.policy]]\nlevel = "connected"\n'
    )
    settings = OrchestratorSettings.load(config=config)
    assert settings.scan_period_s == 5
    assert [(rule.match, rule.level) for rule in settings.policy] == [
        ("drv_uart/*", "initialized"),
        ("*", "connected"),
    ]


def test_a_policy_outside_of_the_orchestrators_table_is_told_its_new_place(tmp_path: Path) -> None:
    config = tmp_path / "sat.toml"
    config.write_text('[[policy]]\nlevel = "connected"\n')
    with pytest.raises(
        ConfigError, match=r"stands in no table; write \[\[orchestrator\.policy\]\]"
    ):
        OrchestratorSettings.load(config=config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLICY", '[{"match": "*", "level": "flying"}]'),
        ("POLICY", "connected"),
        ("SCAN_PERIOD_S", "0"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SAT_{name}", value)
    with pytest.raises(ConfigError, match=name.lower() + "|" + name):
        OrchestratorSettings.load()
