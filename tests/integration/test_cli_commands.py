"""The commands that look at a bench and command it, each as a process, on one bench that `sat up`
runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.benches import Sat
from tests.waiting import eventually


@pytest.fixture(scope="module")
def sat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sat]:
    sat = Sat(tmp_path_factory.mktemp("bench"))
    bench = sat.start("up", "--port", str(sat.port), "--broker-kind", "embedded")
    try:
        assert eventually(lambda: "ecu: connected can" in sat.said(), 30.0), sat.said()
        yield sat
    finally:
        assert sat.end(bench) == 0


def test_ls_shows_devices_and_services(sat: Sat) -> None:
    done = sat("ls")
    assert done.status == 0
    for word in ("ecu", "connected", "drv_socketcan", "orchestrator", "ready"):
        assert word in done.out, done.out


def test_ls_json_is_for_scripts(sat: Sat) -> None:
    site = sat("ls", "--json").json
    (ecu,) = [d for d in site["devices"] if d["device"] == "ecu"]
    assert (ecu["state"], ecu["quality"], ecu["streams"]) == (
        "connected",
        "good",
        {"can": "running"},
    )
    assert ecu["desired"] == {"level": "connected", "streams": {"can": {}}}
    assert site["orchestrator"] == "ready"
    assert [host["state"] for host in site["hosts"]] == ["ready", "ready"]


def test_info_lists_commands_with_what_they_take(sat: Sat) -> None:
    done = sat("info", "ecu")
    assert done.status == 0
    for text in ("connected", "send", "period_ms", "number, 1..3600000", "slcan"):
        assert text in done.out, done.out


def test_info_json_has_the_meta(sat: Sat) -> None:
    assert "send" in sat("info", "drv_socketcan/ecu", "--json").json["meta"]["commands"]


def test_do_prints_the_result(sat: Sat) -> None:
    done = sat("do", "ecu", "send", "id=0x123", "data=1234")
    assert done.status == 0, done.err
    assert json.loads(done.out) == {"id": 0x123, "data": "1234"}


def test_do_json_prints_the_reply(sat: Sat) -> None:
    reply = sat("do", "ecu", "status", "--json").json
    assert reply["status"] == "ok"
    assert reply["result"]["interface"] == "slcan"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ecu", "fly"), "unknown_command"),
        (("ecu", "send", "id=0x123", "data=zz"), "bad_args"),
        (("ecu", "send", "speed=3"), "bad_args"),
        (("ecu", "send", "speed"), "bad_args"),
        (("abs", "send"), "unknown_device"),
    ],
)
def test_a_refusal_is_one_line_with_its_code_and_a_next_step(
    sat: Sat, words: tuple[str, ...], code: str
) -> None:
    done = sat("do", *words)
    assert done.status == 1
    assert done.out == ""
    assert done.err.startswith(f"error ({code}): ")
    assert "\n  next: sat " in done.err


def test_a_refusal_in_json_is_a_reply(sat: Sat) -> None:
    for words, code in ((("ecu", "fly"), "unknown_command"), (("abs", "fly"), "unknown_device")):
        done = sat("do", *words, "--json")
        assert done.status == 1
        assert (done.json["status"], done.json["code"]) == ("error", code)


def test_set_moves_the_device_and_auto_gives_it_back(sat: Sat) -> None:
    try:
        assert sat("set", "ecu", "disconnected", "--wait").status == 0
        (ecu,) = (
            device for device in sat("ls", "--json").json["devices"] if device["device"] == "ecu"
        )
        assert (ecu["state"], ecu["policy"]) == ("disconnected", "explicit")
        assert "\necu: somebody wants it disconnected" in sat("ls").out
        refused = sat("do", "ecu", "send", "id=1")
        assert refused.err.startswith("error (bad_state): ")
    finally:
        assert sat("set", "ecu", "connected", "--stream", "can", "--wait").status == 0
        assert sat("set", "ecu", "auto").status == 0
    assert sat("watch", "ecu", "--count", "1", "--timeout", "20").status == 0


def test_set_refuses_a_word_of_its_own(sat: Sat) -> None:
    done = sat("set", "ecu", "flying")
    assert done.status == 1
    assert "connected, auto" in done.err


def test_scan_shows_what_was_found(sat: Sat) -> None:
    result = sat("scan", "--json").json
    assert "ecu" in [entry["device"] for entry in result["devices"]]
    assert "ecu" in sat("scan").out


def test_watch_prints_frames_like_candump(sat: Sat) -> None:
    done = sat("watch", "ecu", "--count", "20", "--timeout", "20")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 20
    assert any("  ecu  100  [8]  " in line for line in lines)
    assert done.err == ""


def test_watch_json_is_one_frame_a_line_without_a_hole(sat: Sat) -> None:
    done = sat("watch", "ecu", "--count", "50", "--timeout", "20", "--json")
    frames = [json.loads(line) for line in done.out.splitlines()]
    assert [f["seq"] for f in frames] == list(range(frames[0]["seq"], frames[0]["seq"] + 50))
    assert {"device", "stream", "t", "id", "data"} <= frames[0].keys()


def test_watch_decodes_with_a_dbc(sat: Sat) -> None:
    dbc = Path(__file__).parents[2] / "plugins" / "devices" / "can" / "sat_ecu.dbc"
    done = sat("watch", "ecu", "--count", "30", "--timeout", "20", "--signals", str(dbc))
    assert "EngineSpeed=" in done.out


def test_watch_without_a_device_shows_states(sat: Sat) -> None:
    done = sat("watch", "--count", "1", "--timeout", "20", "--json")
    assert done.status == 0
    assert json.loads(done.out.splitlines()[0])["state"] == "connected"


def test_watch_that_does_not_get_its_count_fails(sat: Sat) -> None:
    assert sat("watch", "--count", "1000", "--timeout", "0.5").status == 1


def test_doctor_is_content_with_a_bench(sat: Sat) -> None:
    done = sat("doctor", "--json")
    assert done.status == 0, done.out
    levels = {check["name"]: check["level"] for check in done.json["checks"]}
    assert levels["broker"] == levels["orchestrator"] == levels["plugin drv_socketcan"] == "ok"


def test_doctor_finds_a_broken_plugin_and_says_where(sat: Sat, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "drv_odd.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "odd" / "drv_exit.py").write_text("import os\nos._exit(3)\n")
    done = sat("doctor", "--plugins", str(tmp_path))
    assert done.status == 1
    assert "nothing_of_that_name" in done.out
    assert "drv_odd.py" in done.out
    assert "ended with status 3" in done.out


@pytest.mark.slow
def test_two_benches_do_not_meet(sat: Sat, tmp_path: Path) -> None:
    other = Sat(tmp_path)
    done = other(
        "up", "--port", str(other.port), "--broker-kind", "embedded", "--seconds", "20", "--json"
    )
    assert done.status == 0, done.err
    (ecu,) = (device for device in sat("ls", "--json").json["devices"] if device["device"] == "ecu")
    assert ecu["state"] == "connected"


class TestWithoutABroker:
    """What a person sees who has started nothing yet."""

    @pytest.fixture
    def nowhere(self, tmp_path: Path) -> Sat:
        return Sat(tmp_path)

    def test_ls_says_so_in_one_line(self, nowhere: Sat) -> None:
        done = nowhere("ls")
        assert done.status == 1
        assert done.err.startswith("error (no_broker): no broker answers at mqtt://127.0.0.1:")
        assert (
            " within 1 s ([Errno 111] Connection refused)" in done.err
        )  # nobody has to wait to hear that
        assert "sat doctor" in done.err
        assert done.err.count("\n") == 1

    def test_doctor_fails_and_says_what_to_start(self, nowhere: Sat) -> None:
        done = nowhere("doctor")
        assert done.status == 1
        assert " within 1 s " in done.out
        assert "do: start one: sat up" in done.out

    def test_a_wrong_url_is_a_wrong_call(self, nowhere: Sat) -> None:
        done = nowhere("ls", "--broker", "http://bench")
        assert done.status == 2
        assert "mqtt://" in done.err

    def test_an_option_that_is_none_is_a_wrong_call(self, nowhere: Sat) -> None:
        assert nowhere("ls", "--fly").status == 2
