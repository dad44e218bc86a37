"""Finding imports nothing; loading picks the file's own class; an error names file, class and
reason."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sat_toolkit.core.plugin_loader import (
    REQUIRED_HOOKS,
    PluginFile,
    find_plugins,
    load_beside,
    load_driver,
    plugin_at,
    plugin_folders,
)
from sat_toolkit.core.plugin_packages import PACKAGE
from sat_toolkit.errors import ConfigError, PluginError

HEAD = "from sat_toolkit.core.base_plugin import BaseDeviceDriver\n"
HOOKS = "".join(f"    def {hook}(self, *a): return True\n" for hook in REQUIRED_HOOKS)
GOOD = f"{HEAD}class Good(BaseDeviceDriver):\n{HOOKS}"


@pytest.fixture(autouse=True)
def forget_loaded_plugins() -> Iterator[None]:
    """What a test loads is not there for the next one."""
    devices = __import__(PACKAGE, fromlist=["devices"])
    path, modules = list(devices.__path__), set(sys.modules)
    yield
    devices.__path__ = path
    for name in set(sys.modules) - modules:
        if name.startswith(f"{PACKAGE}."):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def plugin(path: Path, text: str) -> PluginFile:
    write(path, text)
    return PluginFile(path.stem, path.parent.name, path)


def test_the_projects_own_folder_comes_first(tmp_path: Path) -> None:
    own, extra = plugin_folders(str(tmp_path))
    assert own.parts[-2:] == ("plugins", "devices")
    assert extra == tmp_path


@pytest.mark.parametrize("layout", ["fam", "devices/fam", "plugins/devices/fam"])
def test_a_folder_may_hold_families_at_three_levels(tmp_path: Path, layout: str) -> None:
    write(tmp_path / layout / "drv_layout.py", "")
    (found,) = find_plugins(plugin_folders(str(tmp_path)), family="fam")
    assert (found.name, found.family, found.path) == (
        "drv_layout",
        "fam",
        tmp_path / layout / "drv_layout.py",
    )


def test_a_folder_may_hold_drivers_directly(tmp_path: Path) -> None:
    write(tmp_path / "mine" / "drv_direct.py", GOOD)
    (found,) = find_plugins(plugin_folders(str(tmp_path / "mine")), family="mine")
    assert load_driver(found).__name__ == "Good"


def test_several_folders_are_searched_and_empty_entries_skipped(tmp_path: Path) -> None:
    write(tmp_path / "a" / "fam" / "drv_one.py", "")
    write(tmp_path / "b" / "fam" / "drv_two.py", "")
    extra = os.pathsep.join([str(tmp_path / "a"), "", str(tmp_path / "b"), str(tmp_path / "a")])
    assert [p.name for p in find_plugins(plugin_folders(extra), "fam")] == ["drv_one", "drv_two"]


def test_a_folder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SAT_PLUGINS names .*gone"):
        plugin_folders(str(tmp_path / "gone"))


def test_finding_imports_nothing(tmp_path: Path) -> None:
    write(tmp_path / "fam" / "drv_bomb.py", "raise SystemExit('imported')")
    assert [p.name for p in find_plugins([tmp_path])] == ["drv_bomb"]


def test_helpers_simulators_and_hidden_folders_are_no_drivers(tmp_path: Path) -> None:
    for name in ("sim_x.py", "helper.py", "drv_notes.txt"):
        write(tmp_path / "fam" / name, "")
    write(tmp_path / ".hidden" / "drv_x.py", "")
    assert find_plugins([tmp_path]) == []


def test_two_files_of_one_name_are_named(tmp_path: Path) -> None:
    one = write(tmp_path / "a" / "drv_same.py", "")
    two = write(tmp_path / "b" / "drv_same.py", "")
    with pytest.raises(PluginError) as caught:
        find_plugins([tmp_path])
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


def test_a_dot_in_a_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v1.2" / "drv_x.py", "")
    with pytest.raises(PluginError, match="may have a dot"):
        find_plugins([tmp_path])


def test_a_driver_imports_its_helpers_under_the_package_name(tmp_path: Path) -> None:
    write(tmp_path / "helped" / "numbers_of.py", "ANSWER = 42\n")
    text = f"from plugins.devices.helped.numbers_of import ANSWER\n{GOOD}    answer = ANSWER\n"
    cls = load_driver(plugin(tmp_path / "helped" / "drv_helped.py", text))
    assert cls.__module__ == "plugins.devices.helped.drv_helped"
    assert vars(cls)["answer"] == 42


def test_a_family_of_the_project_can_be_extended_from_elsewhere(tmp_path: Path) -> None:
    """The project's own `can` folder does not hide the helpers of another `can` folder."""
    write(tmp_path / "can" / "extension_helper.py", "ANSWER = 1\n")
    text = f"from plugins.devices.can.extension_helper import ANSWER\n{GOOD}"
    assert load_driver(plugin(tmp_path / "can" / "drv_extension.py", text))


def test_loading_the_same_file_twice_gives_the_same_class(tmp_path: Path) -> None:
    found = plugin(tmp_path / "fam" / "drv_twice.py", GOOD)
    assert load_driver(found) is load_driver(found)


def test_the_file_is_loaded_that_was_found_not_one_of_the_same_name(tmp_path: Path) -> None:
    one = load_driver(plugin(tmp_path / "1" / "fam" / "drv_named.py", GOOD))
    two = load_driver(
        plugin(tmp_path / "2" / "fam" / "drv_named.py", GOOD.replace("Good", "Other"))
    )
    assert (one.__name__, two.__name__) == ("Good", "Other")


def test_an_imported_driver_class_is_never_picked(tmp_path: Path) -> None:
    write(tmp_path / "fam" / "base_of.py", GOOD.replace("Good", "Imported"))
    text = "from plugins.devices.fam.base_of import Imported\nclass Mine(Imported):\n    pass\n"
    assert load_driver(plugin(tmp_path / "fam" / "drv_derived.py", text)).__name__ == "Mine"
    only_imports = "from plugins.devices.fam.base_of import Imported\n"
    with pytest.raises(PluginError, match=r"drv_importing\.py: defines no class"):
        load_driver(plugin(tmp_path / "fam" / "drv_importing.py", only_imports))


def test_of_a_chain_the_most_derived_is_picked(tmp_path: Path) -> None:
    text = f"{GOOD}class Better(Good):\n    pass\nclass Best(Better):\n    pass\nAlias = Best\n"
    assert load_driver(plugin(tmp_path / "fam" / "drv_chain.py", text)).__name__ == "Best"


def test_two_independent_drivers_in_a_file_are_refused(tmp_path: Path) -> None:
    text = f"{GOOD}class Second(BaseDeviceDriver):\n{HOOKS}"
    with pytest.raises(PluginError, match=r"drv_two\.py: defines several drivers: Good, Second"):
        load_driver(plugin(tmp_path / "fam" / "drv_two.py", text))


def test_a_missing_hook_is_named_with_the_line_to_add(tmp_path: Path) -> None:
    text = GOOD.replace("    def _reset_impl(self, *a): return True\n", "")
    with pytest.raises(PluginError) as caught:
        load_driver(plugin(tmp_path / "fam" / "drv_lacks.py", text))
    message = str(caught.value)
    assert "drv_lacks.py: class Good lacks _reset_impl" in message
    assert "def _reset_impl(self, device: Device) -> bool:" in message
    assert "_close_impl" not in message


def test_a_constructor_that_needs_arguments_is_refused(tmp_path: Path) -> None:
    text = f"{GOOD}    def __init__(self, port): super().__init__()\n"
    with pytest.raises(PluginError, match=r"Good\(\) must take no arguments .*'port'"):
        load_driver(plugin(tmp_path / "fam" / "drv_needs.py", text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import no_such_module_anywhere\n",
            "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        ),
        ("def broken(:\n", "SyntaxError"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    ],
)
def test_whatever_an_import_does_is_a_plugin_error_with_the_file(
    tmp_path: Path, text: str, said: str
) -> None:
    found = plugin(tmp_path / "fam" / "drv_breaks.py", text)
    for _ in range(2):  # a failed import leaves nothing behind that the second one would find
        with pytest.raises(PluginError) as caught:
            load_driver(found)
        assert f"{found.path}: cannot be imported: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("hook", "said", "line"),
    [
        (
            "def _connect_impl(self): return True",
            "_connect_impl cannot be called as it will be",
            "(self, device: Device)",
        ),
        (
            "def _scan_impl(self, where): return []",
            "_scan_impl cannot be called as it will be",
            "_scan_impl(self)",
        ),
        (
            "def _command_impl(self, device): return 1",
            "_command_impl cannot be called as it will be",
            "command: str",
        ),
        (
            "async def _close_impl(self, device): return True",
            "_close_impl is async",
            "def _close_impl",
        ),
        ("_reset_impl = True", "_reset_impl is no method but bool", "def _reset_impl"),
        (
            "def _acquisition_loop(self, device): pass",
            "_acquisition_loop cannot be called",
            "_acquisition_loop(self)",
        ),
        (
            "def wait_for_change(self): return True",
            "wait_for_change cannot be called",
            "timeout: float",
        ),
    ],
)
def test_a_wrong_hook_is_named_with_the_line_to_use(
    tmp_path: Path, hook: str, said: str, line: str
) -> None:
    with pytest.raises(PluginError) as caught:
        load_driver(plugin(tmp_path / "fam" / "drv_wrong.py", f"{GOOD}    {hook}\n"))
    message = str(caught.value)
    assert "drv_wrong.py: class Good: " in message
    assert said in message
    assert line in message


@pytest.mark.parametrize(
    "hook",
    [
        "def _command_impl(self, device, command): return 1",
        "def _command_impl(self, device, command, **args): return 1",
        "def _command_impl(self, device, command, *, args=None): return 1",
        "def _command_impl(self, device, command, args=None, extra=3): return 1",
        "def _connect_impl(self, device, retries=3, *, speed=None, **more): return True",
        "_reset_impl = staticmethod(lambda device: True)",
        "@classmethod\n    def _close_impl(cls, device): return True",
    ],
)
def test_hooks_may_have_the_forms_of_the_guides_era(tmp_path: Path, hook: str) -> None:
    assert load_driver(plugin(tmp_path / "fam" / "drv_forms.py", f"{GOOD}    {hook}\n"))


def test_a_driver_that_starts_its_acquisition_itself_calls_its_own_loop(tmp_path: Path) -> None:
    own = "    def start_acquisition(self, device): ...\n    def _acquisition_loop(self, device, speed): ...\n"
    assert load_driver(plugin(tmp_path / "fam" / "drv_own.py", f"{GOOD}{own}"))


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("stream_types = ['can']", "stream_types must be a tuple of StreamType.UART"),
        ("stream_types = None", "stream_types must be a tuple"),
        ("scan_period = '5'", "scan_period must be a number of seconds above 0, not '5'"),
        ("scan_period = 0", "scan_period must be"),
        ("acquisition_join_timeout = True", "acquisition_join_timeout must be"),
        ("rescan_in_worker = 1", "rescan_in_worker must be True or False, not 1"),
    ],
)
def test_a_wrong_attribute_is_named_with_what_it_takes(
    tmp_path: Path, attribute: str, said: str
) -> None:
    with pytest.raises(PluginError, match=r"drv_attr\.py: class Good: ") as caught:
        load_driver(plugin(tmp_path / "fam" / "drv_attr.py", f"{GOOD}    {attribute}\n"))
    assert said in str(caught.value)


def test_an_abstract_class_says_what_it_lacks(tmp_path: Path) -> None:
    text = f"import abc\n{GOOD}    @abc.abstractmethod\n    def port(self): ...\n".replace(
        "(BaseDeviceDriver)", "(BaseDeviceDriver, abc.ABC)"
    )
    with pytest.raises(PluginError, match="is abstract; implement port"):
        load_driver(plugin(tmp_path / "fam" / "drv_abstract.py", text))


def test_a_plugin_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "fam" / "drv_there.py", GOOD)
    assert plugin_at(path) == PluginFile("drv_there", "fam", path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("drv_gone.py", "there is no such file"),
        ("there.py", "named drv_<name>.py"),
        ("drv_notes.txt", "named drv_<name>.py"),
        ("drv_a.b.py", "may have a dot"),
    ],
)
def test_what_cannot_be_a_plugin_says_why(tmp_path: Path, name: str, said: str) -> None:
    if "gone" not in name:
        write(tmp_path / name, GOOD)
    with pytest.raises(PluginError, match=said):
        plugin_at(tmp_path / name)


def test_a_module_beside_a_driver_is_loaded_under_the_familys_name(tmp_path: Path) -> None:
    found = plugin(tmp_path / "beside" / "drv_x.py", GOOD)
    write(tmp_path / "beside" / "sim_x.py", "ANSWER = 42\n")
    assert load_beside(found, "sim_x").ANSWER == 42
    assert load_beside(found, "sim_x").__name__ == f"{PACKAGE}.beside.sim_x"
    with pytest.raises(PluginError, match=r"sim_y\.py: cannot be imported"):
        load_beside(found, "sim_y")


def test_a_stray_copy_in_one_family_does_not_keep_another_from_its_work(tmp_path: Path) -> None:
    for family, name in (("one", "drv_same"), ("two", "drv_same"), ("three", "drv_fine")):
        (tmp_path / family).mkdir()
        (tmp_path / family / f"{name}.py").write_text("")
    assert [plugin.name for plugin in find_plugins([tmp_path], "three")] == ["drv_fine"]
    with pytest.raises(PluginError, match="two drivers have the name drv_same"):
        find_plugins([tmp_path])


def test_threads_that_load_one_file_at_once_get_the_same_class(tmp_path: Path) -> None:
    slow = plugin(tmp_path / "fam" / "drv_slow.py", f"import time\ntime.sleep(0.1)\n{GOOD}")
    with ThreadPoolExecutor(8) as pool:
        classes = set(pool.map(load_driver, [slow] * 8))
    assert [driver.__name__ for driver in classes] == ["Good"]
