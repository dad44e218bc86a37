"""The sign of life: what the service manager and the file are told, and that a loop which hangs
gives none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sat_bus.service.alive import Alive, take_notify_socket
from sat_bus.service.loop import WorkLoop
from sat_bus.service.run import run_service
from sat_toolkit.errors import ConfigError
from tests.service_manager import Manager
from tests.waiting import eventually

PERIOD = 0.1


class Site:
    """A service that does nothing, on a loop in a thread, with its sign of life."""

    def __init__(self, file: Path | None = None, notify: str = "") -> None:
        self.connected = self.ready = True
        self.loop = WorkLoop("test")
        words = "serving 2 devices"
        self.alive = Alive(
            lambda: self.connected,
            lambda: self.ready,
            lambda: words,
            file=file,
            notify=notify,
            period=PERIOD,
        )
        self.on_stop: Callable[[], object] = lambda: None
        self.thread = threading.Thread(
            target=run_service, args=(self, self.loop, self.alive), name="site"
        )

    def start(self) -> None: ...

    def stop(self) -> None:
        self.on_stop()

    def end(self) -> None:
        self.loop.finish()
        self.thread.join(10)


@pytest.fixture(params=["{}/notify", "@sat-test-{}"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(request.param.format(tmp_path if "/" in request.param else os.getpid()))
    yield manager
    manager.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(**arguments: object) -> Site:
        sites.append(Site(**arguments))  # type: ignore[arg-type]
        return sites[-1]

    yield make
    for site in sites:
        if site.thread.is_alive():
            site.end()


def run(site: Site) -> Site:
    site.thread.start()
    return site


def hang(loop: WorkLoop) -> threading.Event:
    """Have the loop do nothing from now on until the event that this returns."""
    hung, go_on = threading.Event(), threading.Event()

    def job() -> None:
        hung.set()
        go_on.wait(10)

    loop.post(job)
    assert hung.wait(5)
    return go_on


def age_goes_back(file: Path) -> bool:
    """Whether the file is written again, after it was made an hour old."""
    os.utime(file, (0, 0))
    return eventually(lambda: file.exists() and file.stat().st_mtime > 0, 10 * PERIOD)


class TestServiceManager:
    def test_hears_ready_status_and_a_beat(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:
        run(make(notify=manager.address))
        assert manager.hear() == ["WATCHDOG=1", "STATUS=serving 2 devices", "READY=1"]
        assert "WATCHDOG=1" in manager.hear()

    def test_a_service_that_waits_for_the_broker_is_alive_and_not_ready(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:  # fmt: skip
        site = make(notify=manager.address)
        site.connected = False
        run(site)
        for _ in range(2):
            assert manager.hear() == [
                "WATCHDOG=1",
                "STATUS=waiting for the broker",
                "EXTEND_TIMEOUT_USEC=15000000",
            ]

    def test_a_broker_that_goes_away_later_takes_nothing_back(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:  # fmt: skip
        site = run(make(notify=manager.address))
        manager.hear()
        site.connected = False
        manager.hear()
        assert manager.hear() == ["WATCHDOG=1", "STATUS=waiting for the broker", "READY=1"]

    def test_a_service_that_has_not_said_its_birth_is_not_ready(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:  # fmt: skip
        site = make(notify=manager.address)
        site.ready = False
        run(site)
        assert "READY=1" not in manager.hear()
        site.ready = True
        manager.hear()
        assert "READY=1" in manager.hear()

    def test_a_loop_that_hangs_gives_no_beat(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:
        site = run(make(notify=manager.address))
        manager.hear()
        go_on = hang(site.loop)
        manager.drain()
        silent = manager.hears_nothing(5 * PERIOD)
        go_on.set()
        assert silent

    def test_hears_of_the_orderly_end_and_beats_during_it(
        self, make: Callable[..., Site], manager: Manager
    ) -> None:
        site = make(notify=manager.address)
        site.on_stop = lambda: site.loop.run_until(lambda: False, 3 * PERIOD)
        run(site)
        manager.hear()
        site.loop.finish()
        heard = [manager.hear() for _ in range(2)]
        assert heard[0] == ["STOPPING=1", "STATUS=stopping"]
        assert heard[1] == ["WATCHDOG=1"]

    def test_that_is_not_there_harms_nobody(
        self, make: Callable[..., Site], tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"
        run(make(notify=str(tmp_path / "nobody"), file=file))
        assert eventually(file.exists)
        assert age_goes_back(file)

    def test_is_no_inheritance(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
        monkeypatch.setenv("WATCHDOG_USEC", "10")
        assert take_notify_socket() == "/run/x"
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & os.environ.keys()
        assert take_notify_socket() == ""


class TestFile:
    def test_is_written_again_and_again_and_goes_with_the_service(
        self, make: Callable[..., Site], tmp_path: Path
    ) -> None:  # fmt: skip
        file = tmp_path / "alive"
        site = run(make(file=file))
        assert eventually(file.exists)
        assert age_goes_back(file)
        assert file.read_text() == "serving 2 devices\n"
        site.end()
        assert not file.exists()

    @pytest.mark.parametrize("missing", ["connected", "ready"])
    def test_is_not_written_before_the_service_can_be_used(
        self, make: Callable[..., Site], tmp_path: Path, missing: str
    ) -> None:  # fmt: skip
        file = tmp_path / "alive"
        site = make(file=file)
        setattr(site, missing, False)
        run(site)
        assert not eventually(file.exists, 5 * PERIOD)
        setattr(site, missing, True)
        assert eventually(file.exists)

    def test_grows_old_while_the_broker_is_away(
        self, make: Callable[..., Site], tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"
        site = run(make(file=file))
        assert eventually(file.exists)
        site.connected = False
        assert not age_goes_back(file)
        site.connected = True
        assert age_goes_back(file)

    def test_grows_old_while_the_loop_hangs(
        self, make: Callable[..., Site], tmp_path: Path
    ) -> None:
        file = tmp_path / "alive"
        site = run(make(file=file))
        assert eventually(file.exists)
        go_on = hang(site.loop)
        written = age_goes_back(file) and age_goes_back(file)
        go_on.set()
        assert not written

    def test_must_be_in_a_folder_that_is_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"alive_file .*/none/alive: accepted: a file in a folder"
        ):
            Site(file=tmp_path / "none" / "alive")

    def test_that_cannot_be_written_is_said_once(
        self, make: Callable[..., Site], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:  # fmt: skip
        file = tmp_path / "alive"
        file.mkdir()
        site = run(make(file=file))
        assert eventually(lambda: "the sign of life cannot be written" in caplog.text)
        file.rmdir()
        assert eventually(file.is_file)
        assert caplog.text.count("cannot be written") == 1
        site.end()
