"""`sat do`, `sat set`, `sat release` and `sat scan`: what they ask, what they print, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer

from sat_bus.contract import messages as m
from sat_bus.contract import topics
from sat_cli.commands import devices
from sat_toolkit import errors
from tests.unit.sat_cli.conftest import Reached

Captured = pytest.CaptureFixture[str]


def answering(result: Any) -> Callable[[topics.Match, m.Request], Any]:
    def answer(match: topics.Match, request: m.Request) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return answer


def status_of(call: Callable[[], None]) -> int:
    """The exit status that a command asks for."""
    with pytest.raises(typer.Exit) as caught:
        call()
    return caught.value.exit_code


def test_do_sends_the_args_and_prints_the_result(reached: Reached, capsys: Captured) -> None:
    reached.site.answer = answering("Started streaming")
    devices.do("ecu", "send", ["id=0x123", "data=1234", "fd=true"], **reached.where)
    ((topic, request),) = reached.site.asked
    assert "/ecu/cmd/send/" in topic
    assert request.args == {"id": "0x123", "data": 1234, "fd": True}
    assert capsys.readouterr().out == "Started streaming\n"


def test_do_raises_what_was_refused(reached: Reached) -> None:
    reached.site.answer = answering(errors.BadState("not now"))
    with pytest.raises(errors.BadState, match="not now"):
        devices.do("ecu", "send", **reached.where)


@pytest.mark.parametrize(
    ("answer", "code", "status"), [("fine", None, 0), (errors.BadState("not now"), "bad_state", 1)]
)
def test_as_json_the_whole_reply_is_printed(
    reached: Reached, capsys: Captured, answer: Any, code: str | None, status: int
) -> None:
    reached.site.answer = answering(answer)
    assert status_of(lambda: devices.do("ecu", "send", json=True, **reached.where)) == status
    reply = json.loads(capsys.readouterr().out)
    assert (reply["code"], reply["host"]) == (code, "bench-can")


def test_as_json_a_request_that_was_never_sent_is_a_reply_too(
    reached: Reached, capsys: Captured
) -> None:
    assert status_of(lambda: devices.do("nothing", "send", json=True, **reached.where)) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "unknown_device"


@pytest.mark.parametrize(
    ("streams", "args"),
    [
        (None, {"level": "connected"}),
        (["can"], {"level": "connected", "streams": {"can": {}}}),
    ],
)
def test_set_asks_the_orchestrator(
    reached: Reached, capsys: Captured, streams: list[str] | None, args: dict[str, Any]
) -> None:
    devices.set_level("ecu", "connected", streams, **reached.where)
    ((topic, request),) = reached.site.asked
    assert "/ecu/set/" in topic
    assert request.args == args
    said = capsys.readouterr().out
    assert said == "bench-can/drv_socketcan/ecu: asked for connected; now connected\n"


def test_set_may_wait_until_it_is_so(reached: Reached, capsys: Captured) -> None:
    def obey(match: topics.Match, request: m.Request) -> Any:
        reached.site.status("ecu", "disconnected")
        return None

    reached.site.answer = obey
    devices.set_level("ecu", "disconnected", wait=True, timeout=10.0, **reached.where)
    assert capsys.readouterr().out == "bench-can/drv_socketcan/ecu: disconnected\n"


@pytest.mark.parametrize(("released", "word"), [(True, "released"), (False, "was not quarantined")])
def test_release_says_whether_there_was_a_quarantine(
    reached: Reached, capsys: Captured, released: bool, word: str
) -> None:
    reached.site.answer = answering({"released": released})
    devices.release("ecu", **reached.where)
    assert capsys.readouterr().out == f"bench-can/drv_socketcan/ecu: {word}\n"


def test_scan_shows_what_was_found(reached: Reached, capsys: Captured) -> None:
    found = {
        "device": "ecu",
        "driver": "drv_x",
        "host": "bench",
        "state": "discovered",
        "new": True,
    }
    reached.site.answer = answering({"devices": [found], "errors": {}})
    devices.scan(host="bench", **reached.where)
    assert reached.site.asked[0][1].args == {"host": "bench"}
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["ecu", "discovered", "new", "drv_x", "bench"]


def test_a_scan_in_which_a_driver_failed_has_failed(reached: Reached, capsys: Captured) -> None:
    reached.site.answer = answering({"devices": [], "errors": {"drv_x": "no such bus"}})
    assert status_of(lambda: devices.scan(**reached.where)) == 1
    said = capsys.readouterr().out
    assert "no devices found" in said
    assert "drv_x: no such bus" in said
