"""What a `sat` command imports, and what it says where a library is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sat_cli.commands
from sat_cli.command_table import COMMANDS
from sat_cli.kit.new import new_plugin

# Runs `sat` with the words given, and prints what it has loaded as the last line of stderr.
_RUN = """
import sys
try:
    from sat_cli.main import main
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
# Stands before it: a library as if it were not installed.
_WITHOUT = "import sys; sys.modules[{0!r}] = None\n"


def sat(*words: str, code: str = _RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=30
    )


def loaded(result: subprocess.CompletedProcess[str]) -> set[str]:
    return set(result.stderr.splitlines()[-1].split())


def test_the_version_is_told_with_typer_alone() -> None:
    """A tenth of a second of processor time, where the commands' libraries take half of one."""
    result = sat("--version")
    assert result.stdout.startswith("sat ")
    theirs = loaded(result) - sys.stdlib_module_names - {"__main__"}
    ours = {name for name in theirs if name.startswith("sat_")}
    assert ours == {"sat_cli", "sat_toolkit"}
    assert not theirs & {"rich", "pydantic", "paho", "structlog", "amqtt", "sqlalchemy", "can"}
    assert "logging" not in loaded(result)


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (("host", "--help"), "paho"),
        (("ls", "--broker", "nonsense"), "structlog"),
        (("broker", "--help"), "amqtt"),
        (("up", "--help"), "amqtt"),
    ],
)
def test_a_command_loads_what_it_needs(words: tuple[str, ...], spared: str) -> None:
    assert spared not in loaded(sat(*words))


def test_every_module_of_commands_is_in_the_table() -> None:
    folder = Path(next(iter(sat_cli.commands.__path__)))
    written = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {place.where.partition(":")[0] for place in COMMANDS.values()} == written


def test_the_check_of_a_driver_without_ruff_says_what_to_install(tmp_path: Path) -> None:
    (driver, *_) = new_plugin("probe", None, tmp_path)
    result = sat("plugin", "check", str(driver), code=_WITHOUT.format("ruff") + _RUN)
    told = "sat plugin check needs ruff, which is not installed: install sat-rack[kit]"
    assert f"error (config): {told}\n" in result.stderr
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("typer", ("ls",), "cli"),
        ("sqlalchemy", ("orchestrator",), "orchestrator"),
        ("structlog", ("host", "--family", "can"), "host"),
        ("amqtt", ("broker", "--kind", "embedded", "--port", "1"), "broker"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    missing: str, words: tuple[str, ...], extra: str
) -> None:
    result = sat(*words, code=_WITHOUT.format(missing) + _RUN)
    told = f"sat {words[0]} needs {missing}, which is not installed: install sat-rack[{extra}]"
    assert f"error (config): {told}\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == 2
