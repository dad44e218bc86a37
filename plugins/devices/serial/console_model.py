"""The device behind the simulated console: a small board with a shell, a thermometer and a log.
PURE.

Time is an argument, in seconds on any clock that does not jump. Nothing here knows a pty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

PROMPT: Final = "sat> "
NEWLINE: Final = "\r\n"
VERSION: Final = "1.4.2"
MAX_INPUT: Final = 256

_BANNER: Final = (
    "",
    f"SAT console simulator, firmware {VERSION}",
    "Copyright the SAT Toolkit authors",
)
_BOOT_LOG: Final = (
    (0.05, "boot: clock 80 MHz, reset cause: {cause}"),
    (0.10, "boot: flash ok, 4096 KiB"),
    (0.15, "boot: thermometer found at 0x48"),
    (0.20, "boot: ready"),
)


class Console:
    """One board. `receive` takes what is typed, `due` gives what it prints by itself; both answer
    with output.

    Args:
        now: when it is switched on.
        log_period: seconds between two lines of its log.
    """

    def __init__(self, now: float, log_period: float = 0.5) -> None:
        self._log_period = log_period
        self._input = ""
        self._held = ""  # typed while it boots
        self._column = 0
        self._last = ""
        self._agenda: list[tuple[float, Callable[[float], str]]] = []
        self._boot(now, "power on")

    @property
    def next_due(self) -> float:
        """When `due` has something to print."""
        return self._agenda[0][0]

    def due(self, now: float) -> bytes:
        """What it prints by itself up to `now`. Of log lines that were missed in a pause only one
        is printed."""
        text = ""
        while self._agenda[0][0] <= now:
            text += self._agenda.pop(0)[1](now)
        if self._held and not self._booting:
            held, self._held = self._held, ""
            text += self._typed(held, now)
        return self._printed(text)

    def receive(self, data: bytes, now: float) -> bytes:
        """The echo of what is typed, and the answers to the lines that it completes."""
        return self._printed(self._typed(data.decode("latin-1"), now))

    # --- its own doing -------------------------------------------------------------------------------

    def _boot(self, now: float, cause: str) -> None:
        self._started = now
        self._input = ""
        lines = [(0.0, line) for line in _BANNER] + [
            (at, line.format(cause=cause)) for at, line in _BOOT_LOG
        ]
        self._agenda = [(now + at, _saying(line + NEWLINE)) for at, line in lines]
        ready = lines[-1][0]
        self._agenda += [
            (now + ready, _saying(PROMPT)),
            (now + ready + self._log_period, self._log),
        ]

    @property
    def _booting(self) -> bool:
        return len(self._agenda) > 1

    def _log(self, now: float) -> str:
        self._agenda.append((now + self._log_period, self._log))
        if self._input:
            return ""  # a person is typing
        start = NEWLINE if self._column else ""
        return f"{start}[{now - self._started:9.3f}] temp: {self._temperature(now):.2f} C{NEWLINE}"

    def _temperature(self, now: float) -> float:
        return 21.5 + 2.0 * math.sin((now - self._started) / 7.0)

    # --- the shell -----------------------------------------------------------------------------------

    def _typed(self, keys: str, now: float) -> str:
        output = ""
        for index, key in enumerate(keys):
            if self._booting:
                self._held = (self._held + keys[index:])[:MAX_INPUT]
                break
            output += self._key(key, now)
        return output

    def _key(self, key: str, now: float) -> str:
        last, self._last = self._last, key
        if key == "\n" and last == "\r":
            return ""  # a carriage return with a line feed is one end of line
        if key in "\r\n":
            line, self._input = self._input.strip(), ""
            return NEWLINE + self._answer(line, now)
        if key in "\b\x7f":
            had, self._input = self._input, self._input[:-1]
            return "\b \b" if had else ""
        if key == "\x03":
            self._input = ""
            return f"^C{NEWLINE}{PROMPT}"
        if not " " <= key <= "~" or len(self._input) >= MAX_INPUT:
            return "\a"
        self._input += key
        return key

    def _answer(self, line: str, now: float) -> str:
        name, _, rest = line.partition(" ")
        if name == "reboot":
            self._boot(now, "software")
            return f"rebooting{NEWLINE}"
        answers = {
            "": "",
            "help": "commands: help version uptime temp echo reboot",
            "version": f"firmware {VERSION}",
            "uptime": f"up {now - self._started:.1f} s",
            "temp": f"{self._temperature(now):.2f} C",
            "echo": rest,
        }
        answer = answers.get(name, f"unknown command: {name}, try help")
        return f"{answer}{NEWLINE if answer or name else ''}{PROMPT}"

    def _printed(self, text: str) -> bytes:
        """`text` as bytes; the cursor moves with it."""
        if text:
            tail = text.rpartition("\n")[2]
            self._column = len(tail) if "\n" in text else self._column + len(tail)
        return text.encode("latin-1")


def _saying(text: str) -> Callable[[float], str]:
    return lambda _: text
