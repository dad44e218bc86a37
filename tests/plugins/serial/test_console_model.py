"""The simulated board by itself, on a clock in the test's hand."""

from __future__ import annotations

import re

import pytest

from plugins.devices.serial.console_model import PROMPT, VERSION, Console


def booted() -> Console:
    console = Console(0.0)
    console.due(0.3)
    return console


def test_it_boots_and_then_logs_twice_a_second() -> None:
    console = Console(100.0)
    boot = console.due(100.25).decode()
    assert boot.startswith(f"\r\nSAT console simulator, firmware {VERSION}\r\n")
    assert "reset cause: power on" in boot
    assert boot.endswith(f"boot: ready\r\n{PROMPT}")
    assert console.next_due == pytest.approx(100.7)
    assert console.due(100.6) == b""
    log = console.due(100.7).decode() + console.due(101.2).decode()
    assert re.fullmatch(
        r"\r\n\[ +0\.700\] temp: \d\d\.\d\d C\r\n\[ +1\.200\] temp: \d\d\.\d\d C\r\n", log
    )


def test_after_a_pause_it_does_not_make_up_for_what_it_missed() -> None:
    console = booted()
    assert console.due(1000.0).count(b"temp:") == 1
    assert console.next_due == pytest.approx(1000.5)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (b"version\r\n", f"version\r\nfirmware {VERSION}\r\n{PROMPT}"),
        (b"echo a b\n", f"echo a b\r\na b\r\n{PROMPT}"),
        (b"uptime\r", f"uptime\r\nup 5.0 s\r\n{PROMPT}"),
        (b"\r", f"\r\n{PROMPT}"),
        (b"nix\r", f"nix\r\nunknown command: nix, try help\r\n{PROMPT}"),
        (
            b"vex\b\x7frsion\r",
            f"vex\b \b\b \brsion\r\nunknown command: vrsion, try help\r\n{PROMPT}",
        ),
        (b"ver\x03", f"ver^C\r\n{PROMPT}"),
        (b"\xff\x00", "\a\a"),
        (b"\b", ""),
    ],
)
def test_its_shell(typed: bytes, answer: str) -> None:
    assert booted().receive(typed, 5.0).decode("latin-1") == answer


def test_help_names_every_command() -> None:
    names = (
        booted().receive(b"help\r", 1.0).decode().splitlines()[1].removeprefix("commands: ").split()
    )
    for name in names:
        assert "unknown command" not in booted().receive(f"{name}\r".encode(), 1.0).decode()
    assert "reboot" in names


def test_reboot_boots_anew() -> None:
    console = booted()
    assert console.receive(b"reboot\r", 50.0) == b"reboot\r\nrebooting\r\n"
    assert console.receive(b"version\r", 50.1) == b"", "it answers when it is up"
    boot = console.due(50.2)
    assert b"reset cause: software" in boot
    assert boot.endswith(f"{PROMPT}version\r\nfirmware {VERSION}\r\n{PROMPT}".encode())
    assert console.receive(b"uptime\r", 51.0).startswith(b"uptime\r\nup 1.0 s")


def test_it_does_not_log_into_what_a_person_types() -> None:
    console = booted()
    console.receive(b"ver", 0.4)
    assert console.due(0.7) == b""
    console.receive(b"sion\r", 0.8)
    assert b"temp:" in console.due(1.2)


def test_a_line_without_an_end_does_not_grow() -> None:
    rebooting = booted()
    rebooting.receive(b"reboot\r" + b"x" * 300, 1.0)
    assert rebooting.due(1.2).partition(PROMPT.encode())[2].count(b"x") == 256
    echo = booted().receive(b"x" * 300, 1.0)
    assert (echo.count(b"x"), echo.count(b"\a")) == (256, 44)
