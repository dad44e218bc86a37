"""Runs one plugin and says what it sees: the child process of ``sat plugin check``.

    python -m sat_cli.kit.probe FD

It reads one JSON object from stdin and writes JSON lines to the file descriptor: before each step
its name and how long it may take, after it a finding. Its parent keeps the time and buries it: a
plugin may hang, exit or crash.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from sat_cli.kit.findings import Finding
from sat_host.containment import limits
from sat_host.wire_messages import WorkerLimits
from sat_toolkit.core.base_plugin import BaseDeviceDriver
from sat_toolkit.core.plugin_loader import PluginFile, load_driver, plugin_at
from sat_toolkit.core.runner import DriverRunner
from sat_toolkit.testing import RULES, Bench, Rule, Subject, Violation, find_simulator
from sat_toolkit.testing.loading import simulator_file

IMPORT_LIMIT = 20.0
CONSTRUCT_LIMIT = 5.0
SCAN_LIMIT = 15.0
RULE_LIMIT = 60.0
SLOW_IMPORT = 2.0
MAX_OUTPUT = 64 * 2**20


class Stop(Exception):  # noqa: N818 - an end, not an error
    """The steps that follow make no sense."""


class Probe:
    """The steps for one plugin, in order. `write` takes one message."""

    def __init__(self, request: Mapping[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        self._plugin: PluginFile = plugin_at(Path(request["path"]))
        self._info: dict[str, Any] = request["info"]
        self._simulate: bool = request["simulate"]
        self._device: str | None = request["device"]
        self._limit: float | None = request["limit"]
        self._write = write
        self._said: set[tuple[str, str, int]] = set()
        self._thread_errors: list[threading.ExceptHookArgs] = []
        threading.excepthook = self._thread_errors.append

    def run(self) -> None:
        driver = self._load()
        self._step("instance", CONSTRUCT_LIMIT, lambda: self._construct(driver))
        subject = self._subject(driver)
        self._step("scan", SCAN_LIMIT, lambda: self._scan(subject))
        self._hold_rules(subject)

    def _hold_rules(self, subject: Subject) -> None:
        missing: set[Any] = set()  # the checks that failed, or were left out
        left_out: list[str] = []
        for rule in RULES:
            if rule.needs in missing:
                missing.add(rule.check)
                left_out.append(rule.name)
            elif not self._step(rule.name, RULE_LIMIT, partial(_hold, rule, subject), rule.fix):
                missing.add(rule.check)
        if left_out:
            text = f"not run, since they need what fails above: {'; '.join(left_out)}"
            self._say(
                Finding("warn", "rules", text, str(self._plugin.path), 0, "mend the others first")
            )

    def _load(self) -> type[BaseDeviceDriver]:
        found: list[type[BaseDeviceDriver]] = []

        def load() -> str | Finding:
            began = time.perf_counter()
            found.append(load_driver(self._plugin))
            took = time.perf_counter() - began
            if took > SLOW_IMPORT:
                fix = "import and do at the top only what the hooks cannot do later"
                return Finding(
                    "warn", "import", f"takes {took:.1f} s", str(self._plugin.path), 1, fix
                )
            return f"class {found[0].__name__}, {took:.2f} s"

        self._step("import", IMPORT_LIMIT, load)
        return found[0]

    def _construct(self, driver: type[BaseDeviceDriver]) -> str:
        runner = DriverRunner(driver, self._info)
        return f"{len(runner.commands())} commands"

    def _subject(self, driver: type[BaseDeviceDriver]) -> Subject:
        simulator = None
        if self._simulate and simulator_file(self._plugin.path) is not None:

            def find() -> str:
                nonlocal simulator
                simulator = find_simulator(self._plugin)
                assert simulator is not None
                with simulator():
                    return str(simulator_file(self._plugin.path))

            self._step("simulator", SCAN_LIMIT, find)
            assert simulator is not None
            return Subject(driver, simulator, True, self._device)
        info = self._info
        return Subject(
            driver, lambda: nullcontext(info), device_id=self._device, frames_within=None
        )

    def _scan(self, subject: Subject) -> str | Finding:
        with Bench(subject) as bench:
            began = time.perf_counter()
            found = [device.device_id for device in bench.scanner().scan()]
            took = time.perf_counter() - began
        path = str(self._plugin.path)
        if not found:
            if subject.simulated:
                raise Violation("the scan does not find what the simulator offers")
            stem = self._plugin.name.removeprefix("drv_")
            fix = (
                f"give it hardware, a configuration (--config JSON) or a simulator (sim_{stem}.py)"
            )
            self._say(
                Finding(
                    "warn", "scan", "finds no device here, so nothing more was run", path, 0, fix
                )
            )
            raise Stop
        if took > subject.driver.scan_period:
            fix = f"scan quicker, or raise scan_period above {took:.0f} s"
            return Finding(
                "warn", "scan", f"takes {took:.1f} s, longer than its scan_period", path, 0, fix
            )
        return f"finds {', '.join(found)} in {took:.2f} s"

    # --- one step ----------------------------------------------------------------------------------

    def _step(
        self, name: str, limit: float, step: Callable[[], str | Finding | None], fix: str = ""
    ) -> bool:
        """Run a step and say what came of it, `step` giving its own words; whether it went well.

        `fix` is what to do about a `Violation`; what the driver itself raised says it better.
        """
        self._write({"begin": name, "limit": self._limit or limit})
        try:
            said = step()
        except Stop:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            violated = isinstance(error, Violation)
            text = str(error) if violated else _text(error)
            own = violated and error.__cause__ is None
            self._say(Finding("fail", name, text, *self._place(error), fix=fix if own else ""))
            if name in ("import", "instance", "scan", "simulator"):
                raise Stop from None
            return False
        if self._thread_errors:
            first = self._thread_errors.pop(0)
            self._thread_errors.clear()
            text = f"an exception ends the thread {getattr(first.thread, 'name', '?')}: {_text(first.exc_value)}"
            self._say(
                Finding(
                    "fail", name, text, *self._place(first.exc_value), fix="catch it, or pass it on"
                )
            )
            return False
        self._say(said if isinstance(said, Finding) else Finding("ok", name, said or ""))
        return True

    def _say(self, finding: Finding) -> None:
        """Tell a finding; what has been told in full is not told so again."""
        if finding.level == "fail":
            said = (finding.text, finding.file, finding.line)
            if said in self._said:
                finding = replace(finding, text="as above", fix="")
            self._said.add(said)
        self._write({"finding": asdict(finding)})

    def _place(self, error: BaseException | None) -> tuple[str, int]:
        """Where in the plugin's folder an error comes from: the innermost line of its own code."""
        folder, seen = self._plugin.path.parent, set()
        best = (str(self._plugin.path), 0)
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            if isinstance(error, SyntaxError) and error.filename:
                return error.filename, error.lineno or 0
            for frame in traceback.extract_tb(error.__traceback__):
                if Path(frame.filename).parent == folder:
                    best = (frame.filename, frame.lineno or 0)
            error = error.__cause__ or error.__context__
        return best


def _hold(rule: Rule, subject: Subject) -> None:
    rule.run(Bench(subject))


def _text(error: BaseException | None) -> str:
    """An error in one line, without the path that the finding has anyway."""
    text = str(error).partition(": cannot be imported: ")[2] or str(error)
    name = type(error).__name__
    if (
        name in ("DriverError", "PluginError", "TimeoutError", "LookupError", "ConfigError")
        and text
    ):
        return text
    return f"{name}: {text}" if text else name


def main(argv: list[str]) -> int:
    """The program; its exit status."""
    number = int(argv[0])
    os.set_inheritable(number, False)
    limits.apply(WorkerLimits())
    # What a flood of output may cost; the kernel's signal ends the process and names the cause.
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT, MAX_OUTPUT))
    faulthandler.enable(sys.stderr)
    with os.fdopen(number, "w", buffering=1) as channel:

        def write(message: dict[str, Any]) -> None:
            channel.write(json.dumps(message) + "\n")

        with suppress(Stop):
            Probe(json.loads(sys.stdin.read()), write).run()
        write({"end": True})
        # Threads that the plugin left, and what it registered with atexit, are none of the parent's
        # business.
        sys.stdout.flush()
        channel.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
