"""What commands print: results on stdout, an error in a line on stderr with what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from sat_cli import output
from sat_client import Offline
from sat_toolkit import errors

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def said(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[str, str]]:
    monkeypatch.setenv("COLUMNS", "200")

    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return read


def test_json_is_one_line_of_utf_8(said: Callable[[], tuple[str, str]]) -> None:
    output.print_json({"name": "Prüfstand", "n": [1, 2]})
    assert said() == ('{"name":"Prüfstand","n":[1,2]}\n', "")


@pytest.mark.parametrize(
    ("result", "printed"), [(None, "done\n"), ("Started [now]", "Started [now]\n")]
)
def test_a_result_is_printed_as_it_is(
    said: Callable[[], tuple[str, str]], result: object, printed: str
) -> None:
    output.print_result(result)
    assert said() == (printed, "")


def test_a_result_with_parts_is_json(said: Callable[[], tuple[str, str]]) -> None:
    output.print_result({"sent": 1})
    assert json.loads(said()[0]) == {"sent": 1}


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            errors.UnknownDevice("no ecu"),
            ["error (unknown_device): no ecu", "  next: sat ls shows what is there; sat scan looks for more"],
        ),
        (errors.DriverError("no carrier"), ["error (driver_error): no carrier"]),
        (errors.HostLost("start it: sat host"), ["error (host_lost): start it: sat host"]),
        (errors.ConfigError("a wrong URL"), ["error (config): a wrong URL"]),
        (errors.PluginError("drv_x.py: no class"), ["error (plugin): drv_x.py: no class"]),
        (
            Offline("no broker answers"),
            ["error (no_broker): no broker answers", "  next: sat ls shows the hosts; sat doctor says what is wrong"],
        ),
    ],
)  # fmt: skip
def test_an_error_is_a_line_and_what_to_do_next(
    said: Callable[[], tuple[str, str]], error: errors.SatError, lines: list[str]
) -> None:
    output.print_error(error)
    out, err = said()
    assert (out, err.splitlines()) == ("", lines)


@pytest.mark.parametrize("state", ["connected", "error", "lost", "ready"])
def test_states_have_a_colour_and_other_words_none(state: str) -> None:
    assert output.styled(state).style
    assert not output.styled("whatever").style
