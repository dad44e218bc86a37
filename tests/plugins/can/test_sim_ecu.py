"""The simulated ECU as a process: a real adapter to any slcan program, that nothing makes wait or
linger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import can
import pytest

from plugins.devices.can.ecu_model import load_database
from plugins.devices.can.sim_ecu import run_bus
from tests.waiting import eventually


def open_slcan(port: Path | str) -> can.BusABC:
    """python-can's own slcan bus: what a stranger would use."""
    return can.Bus(
        channel=str(port),
        interface="slcan",
        bitrate=500_000,
        sleep_after_open=0.0,
        ignore_config=True,
    )


def read_for(bus: can.BusABC, seconds: float) -> list[can.Message]:
    frames, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        if frame := bus.recv(0.1):
            frames.append(frame)
    return frames


def test_a_stranger_reads_the_car_and_gets_an_answer(sim: Callable, tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    sim("--pty", str(port))
    with open_slcan(port) as bus:
        bus.send(can.Message(arbitration_id=0x7DF, is_extended_id=False, data=[2, 1, 0x0C]))
        frames = read_for(bus, 2.0)
    counts = Counter(frame.arbitration_id for frame in frames)
    assert counts.pop(0x7E8) == 1
    assert 0.7 * 444 < sum(counts.values()) < 1.3 * 444
    database = load_database()
    engine = next(frame for frame in frames if frame.arbitration_id == 0x100)
    assert 700 < database.decode_message(0x100, bytes(engine.data))["EngineSpeed"] < 5000
    alive = [frame.data[6] & 15 for frame in frames if frame.arbitration_id == 0x100]
    assert all((b - a) % 16 == 1 for a, b in pairwise(alive))


def test_clients_read_the_car_on_tcp_one_after_the_other(sim: Callable, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    url = sim("--listen", "127.0.0.1:0", "--alive-file", str(alive)).ready.rsplit(maxsplit=1)[-1]
    for _ in range(2):
        with open_slcan(url) as bus:
            bus.send(can.Message(arbitration_id=0x7DF, is_extended_id=False, data=[2, 1, 0x0C]))
            assert any(frame.arbitration_id == 0x7E8 for frame in read_for(bus, 1.0))
    assert alive.read_text() == "simulating\n"


def test_it_takes_part_in_any_bus_of_python_can() -> None:
    stop, ready = threading.Event(), threading.Event()
    with (
        can.Bus(channel="sim", interface="virtual", ignore_config=True) as ours,
        can.Bus(channel="sim", interface="virtual", ignore_config=True) as bus,
    ):
        ecu = threading.Thread(
            target=run_bus, args=(bus, 2.0, stop, lambda _: ready.set()), name="test/ecu"
        )
        ecu.start()
        assert ready.wait(5)
        ours.send(can.Message(arbitration_id=0x7E0, is_extended_id=False, data=[2, 1, 0]))
        frames = read_for(ours, 1.0)
        stop.set()
        ecu.join()
    counts = Counter(frame.arbitration_id for frame in frames)
    assert counts[0x7E8] == 1
    assert 0.7 * 200 < counts[0x100] < 1.3 * 200


def test_clients_come_and_go_and_none_is_given_what_another_left(
    sim: Callable, tmp_path: Path
) -> None:
    port = tmp_path / "ecu"
    sim("--pty", str(port))
    # This one opens the channel and goes without a word and without reading.
    rude = os.open(port, os.O_RDWR | os.O_NOCTTY)
    os.write(rude, b"S6\rO\r")
    os.set_blocking(rude, False)
    deadline = time.monotonic() + 5
    while not _read_some(rude):
        assert time.monotonic() < deadline
    os.close(rude)
    with open_slcan(port) as bus:
        first = read_for(bus, 0.5)
    assert len(first) > 50
    with open_slcan(port) as bus:
        opened = time.time()
        frames = read_for(bus, 0.5)
    alive = [frame.data[6] & 15 for frame in frames if frame.arbitration_id == 0x100]
    assert all((b - a) % 16 == 1 for a, b in pairwise(alive))
    assert frames[0].timestamp >= opened - 0.1


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_and_takes_its_link_along(
    sim: Callable, tmp_path: Path, number: int
) -> None:
    port = tmp_path / "ecu"
    ecu = sim("--pty", str(port))
    assert port.exists()
    assert ecu.stop(number) == 0
    assert not port.is_symlink()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    port = tmp_path / "ecu"
    parent = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'plugins.devices.can.sim_ecu', '--die-with-parent',"
        f" '--pty', {str(port)!r}], stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline(), p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root / 'shared'}{os.pathsep}{root}"}
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout.readline().startswith("sim_ecu ready")
    assert port.exists()
    process.kill()
    process.communicate(timeout=10)
    assert eventually(lambda: not port.is_symlink()), "the simulated ECU outlived its parent"


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "ecu"
    file.write_text("precious")
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-m", "plugins.devices.can.sim_ecu", "--pty", str(file)],
        capture_output=True,
        text=True,
        timeout=20,
        env=os.environ | {"PYTHONPATH": f"{root / 'shared'}{os.pathsep}{root}"},
    )
    assert run.returncode == 1
    assert "is not a symbolic link" in run.stderr
    assert file.read_text() == "precious"
