"""Every driver that ships with the project is held to every rule, on its own simulator."""

from __future__ import annotations

import pytest

from sat_toolkit.core.plugin_loader import PluginFile, find_plugins, plugin_folders
from sat_toolkit.testing import RULES, Bench, Rule, find_simulator, subject_of

SHIPPED = find_plugins(plugin_folders())


@pytest.mark.parametrize("plugin", SHIPPED, ids=lambda plugin: plugin.name)
def test_a_driver_that_ships_has_a_simulator_beside_it(plugin: PluginFile) -> None:
    """So a new family is held to the rules as soon as its folder is there, or fails here."""
    assert find_simulator(plugin) is not None, (
        f"{plugin.path.parent} has no sim_*.py with a function simulator()"
    )


@pytest.mark.parametrize("plugin", SHIPPED, ids=lambda plugin: plugin.name)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name.replace(" ", "-"))
def test_a_driver_that_ships_conforms(plugin: PluginFile, rule: Rule) -> None:
    rule.run(Bench(subject_of(plugin.path)))
