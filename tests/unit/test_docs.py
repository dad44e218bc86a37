"""What can be checked of the documents: links lead somewhere, and no code or setting is left
out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sat_bus.service.settings import ServiceSettings
from sat_host.settings import HostSettings
from sat_orchestrator.settings import OrchestratorSettings
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Code

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        *ROOT.glob("tests/*.md"),
    ]
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(_FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{target} is not there"
        if anchor:
            assert anchor in headings(path), f"{target}#{anchor} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_examples_are_shell(page: Path) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.M | re.S):
        result = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, timeout=10
        )
        assert result.returncode == 0, result.stderr


def test_no_page_installs_us_from_an_index() -> None:
    """We are on none; and on the index sat-toolkit is a stranger's package of the same imports."""
    for page in PAGES:
        for line in re.findall(r"^.*\bpip install\b.*$", page.read_text(), re.M):
            assert re.search(r"\.whl|--no-deps \.|-r ", line), (page, line)
            assert "sat-toolkit" not in line, page


def test_the_users_page_explains_every_code_and_state() -> None:
    text = (ROOT / "docs" / "users.md").read_text()
    assert [word for word in (*Code, *DeviceState) if f"| `{word}` |" not in text] == []


@pytest.mark.parametrize("settings", [ServiceSettings, HostSettings, OrchestratorSettings])
def test_the_operators_page_lists_every_setting(settings: type[ServiceSettings]) -> None:
    text = (ROOT / "docs" / "operators.md").read_text()
    assert [name for name in settings.model_fields if f"| `{name}` |" not in text] == []


def test_the_settings_files_that_we_show_are_taken(tmp_path: Path) -> None:
    """Those of the operators' page, and those that the containers read."""
    page = (ROOT / "docs" / "operators.md").read_text()
    shown = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)
    rack = [path.read_text() for path in (ROOT / "deploy" / "rack").glob("*.toml")]
    assert len(shown) > 1
    assert len(rack) > 3
    for text in (*shown, *rack):
        file = tmp_path / "shown.toml"
        file.write_text(text)
        HostSettings.load(family="can", config=file)
        OrchestratorSettings.load(config=file)


def test_the_example_environment_has_the_settings_that_exist() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    compose = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    services = {f"SAT_{name.upper()}" for name in ServiceSettings.model_fields}
    assert compose <= named
    assert named <= compose | services | {"COMPOSE_PROFILES"}
