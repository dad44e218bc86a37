"""Settings and where they come from; logging; the run loop of a service; its health."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from pydantic import Field

from sat_bus.service.logs import configure_logging
from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import health, memory_kb, run_service
from sat_bus.service.settings import ServiceSettings
from sat_bus.testing.memory import MemoryBroker, MemoryBus
from sat_toolkit.errors import ConfigError, DriverError


class HostSettings(ServiceSettings):
    """As a service extends them."""

    table: ClassVar[str] = "host"

    drivers: dict[str, dict[str, object]] = Field({}, description='JSON such as {"drv_x": {}}')
    count: int = Field(1, description="a whole number")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sat.toml"
    path.write_text(
        '[bus]\nsite = "file"\n[host]\nlog_level = "debug"\ncount = 7\n[drivers.drv_x]\nport = "/dev/a"\n'
    )
    return path


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

    def test_a_file_that_is_missing_or_no_toml_is_an_error(self, tmp_path: Path) -> None:
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
    def test_what_the_file_must_not_have_is_refused(
        self, config: Path, line: str, told: str
    ) -> None:
        config.write_text(line)
        with pytest.raises(ConfigError) as caught:
            HostSettings.load(config=config)
        assert str(caught.value).startswith(told.format(config=config))

    def test_an_old_file_without_tables_is_told_its_new_place(self, config: Path) -> None:
        config.write_text('site = "lab"\ncount = 7\n[drivers.drv_x]\nport = "/dev/a"\n')
        with pytest.raises(ConfigError) as caught:
            HostSettings.load(config=config)
        assert str(caught.value).splitlines() == [
            f"site in {config} stands in no table; write site under [bus]",
            f"count in {config} stands in no table; write count under [host]",
        ]

    def test_the_tables_of_other_services_are_left_alone(self, config: Path) -> None:
        config.write_text("[orchestrator]\nof_another = 1\n[host]\ncount = 7\n")
        assert HostSettings.load(config=config).count == 7

    def test_a_flag_that_is_none_of_ours_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="no such setting: colour"):
            HostSettings.load(colour="red")


class TestLogging:
    @pytest.fixture(autouse=True)
    def restored(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        yield
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()

    def test_is_one_stream_of_json_for_libraries_and_ourselves(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure_logging("host", HostSettings.load(log_format="json"))
        logging.getLogger("some.library").warning("port %s is gone", "can0")
        structlog.get_logger("ours").info("connected", device="can0")
        try:
            raise OSError("unplugged")
        except OSError:
            logging.getLogger("some.plugin").exception("it failed")
        logging.getLogger("some.library").debug("too quiet to show")
        captured = capsys.readouterr()
        lines = [json.loads(line) for line in captured.err.splitlines()]
        assert captured.out == ""
        assert [line["event"] for line in lines] == ["port can0 is gone", "connected", "it failed"]
        assert all(line["service"] == "host" and line["timestamp"].endswith("Z") for line in lines)
        assert lines[1]["device"] == "can0"
        assert "OSError: unplugged" in lines[2]["exception"]

    def test_can_be_read_by_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("host", HostSettings.load(log_level="warning"))
        logging.getLogger("x").warning("careful")
        logging.getLogger("x").info("chatter")
        text = capsys.readouterr().err
        assert "careful" in text
        assert "chatter" not in text


class Recorder:
    """A service that tells what was called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._error = error

    def start(self) -> None:
        self.calls.append("start")
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self.calls.append("stop")


class TestRunService:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_stops_the_service_and_then_the_loop(self, number: signal.Signals) -> None:
        loop, service = WorkLoop("test"), Recorder()
        before = signal.getsignal(number)
        loop.post(lambda: signal.raise_signal(number))
        assert run_service(service, loop) == 0
        assert service.calls == ["start", "stop"]
        assert signal.getsignal(number) is before

    def test_a_signal_ends_a_loop_that_has_nothing_to_do(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM])
        timer.start()
        assert run_service(service, loop) == 0
        timer.join()
        assert service.calls == ["start", "stop"]

    @pytest.mark.parametrize(("error", "status"), [
        (ConfigError("the port is taken"), 2), (DriverError("no"), 1), (RuntimeError("a fault"), 1),
    ])  # fmt: skip
    def test_a_start_that_fails_is_said_and_gives_a_status(
        self, error: Exception, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        service = Recorder(error)
        assert run_service(service, WorkLoop("test")) == status
        assert service.calls == ["start", "stop"]
        assert str(error) in caplog.text

    def test_a_service_may_end_itself_with_a_status(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        loop.post(lambda: loop.finish(5))
        assert run_service(service, loop) == 5
        assert service.calls == ["start", "stop"]

    def test_a_loop_that_was_stopped_still_stops_the_service(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        loop.post(loop.stop)
        assert run_service(service, loop) == 0
        assert service.calls == ["start", "stop"]

    def test_it_runs_outside_of_the_main_thread(self) -> None:
        loop, service = WorkLoop("test"), Recorder()
        thread = threading.Thread(target=run_service, args=(service, loop))
        thread.start()
        loop.finish()
        thread.join(5)
        assert service.calls == ["start", "stop"]

    def test_a_second_signal_ends_the_process_at_once(self) -> None:
        program = (
            "import os, signal, sys, time\n"
            "from sat_bus.service.loop import WorkLoop\n"
            "from sat_bus.service.run import run_service\n"
            "class Stuck:\n"
            "    def start(self): print('up', flush=True)\n"
            "    def stop(self):\n"
            "        print('stopping', flush=True)\n"
            "        time.sleep(60)\n"
            "sys.exit(run_service(Stuck(), WorkLoop('stuck')))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "stopping\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM


class TestHealth:
    def test_tells_queues_drops_and_memory(self) -> None:
        loop = WorkLoop("test", capacity=1)
        loop.post(lambda: None)
        loop.post(lambda: None)
        with MemoryBus(MemoryBroker(), "host") as bus:
            bus.publish("late", b"")
            message = health(loop, bus, "1-a", drops={"frames": 3}, workers={"running": 2})
        assert message.queues == {"loop": 1, "bus_inbox": 0}
        assert message.drops == {
            "loop_full": 1,
            "loop_errors": 0,
            "control_offline": 1,
            "frames": 3,
        }
        assert (message.boot, message.workers, message.bus["reconnects"]) == (
            "1-a",
            {"running": 2},
            0,
        )
        assert message.memory_kb > 1_000

    def test_memory_grows_with_what_is_kept(self) -> None:
        before = memory_kb()
        kept = bytearray(os.urandom(32 << 20))
        assert memory_kb() - before > 16 << 10
        del kept
