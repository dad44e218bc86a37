"""Whether a wheel is what somebody can install: its contents, and each extra in an environment of
its own, with nothing else in it.

    python scripts/check_wheel.py WHEEL            all of it
    python scripts/check_wheel.py WHEEL base can   these parts

Packages come from pip's own index by the hashes of requirements.lock, and are kept in .cache/wheels.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from email.parser import Parser
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE_MB = 30.0
WHEEL_MB = 1.0
OURS = {
    "sat_toolkit",
    "sat_bus",
    "sat_client",
    "sat_host",
    "sat_orchestrator",
    "sat_cli",
    "plugins",
}
REQUIRED = {"orjson", "paho-mqtt", "pydantic"}
EXTRAS = {"cli", "host", "can", "serial", "orchestrator", "broker", "numpy", "kit", "all", "dev"}
SHIPPED = (
    "sat_toolkit/py.typed", "sat_bus/py.typed", "sat_client/py.typed", "plugins/devices/can/sat_ecu.dbc",
    "plugins/devices/can/demo.toml", "plugins/devices/serial/demo.toml", "sat_cli/kit/template/drv_demo.py",
    "sat_orchestrator/store/migrations/versions/v0001_first_tables.py",
)  # fmt: skip


class Wrong(Exception):  # noqa: N818 - a finding, which is told
    """The wheel is not what it should be."""


def require(holds: bool, otherwise: str) -> None:
    """Raises `Wrong` unless it holds."""
    if not holds:
        raise Wrong(otherwise)


# -- what is in it -------------------------------------------------------------------------------


def check_contents(wheel: Path) -> str:
    """Metadata, files and size."""
    size = wheel.stat().st_size / 1e6
    require(size < WHEEL_MB, f"it has {size:.2f} MB, more than {WHEEL_MB}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(about).decode())
    require(metadata["Name"] == "sat-rack", f"its name is {metadata['Name']}")
    needs = metadata.get_all("Requires-Dist") or []
    base = {re.split(r"[^\w-]", need)[0] for need in needs if "extra ==" not in need}
    require(base == REQUIRED, f"the base needs {sorted(base)}")
    extras = set(metadata.get_all("Provides-Extra") or [])
    require(extras == EXTRAS, f"its extras are {sorted(extras)}")
    missing = [name for name in SHIPPED if name not in names]
    require(not missing, f"it lacks {missing}")
    roots = {name.partition("/")[0] for name in names} - {about.partition("/")[0]}
    require(roots == OURS, f"it has {sorted(roots)}")
    owned = [
        name for name in ("plugins/__init__.py", "plugins/devices/__init__.py") if name in names
    ]
    require(not owned, f"{owned} would make a namespace ours")
    return f"{len(names)} files, {size:.2f} MB"


# -- environments --------------------------------------------------------------------------------


def pip(*words: str) -> None:
    """Run pip, as it is set up on this machine."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "-qq",
        "--no-input",
        "--disable-pip-version-check",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"pip {' '.join(words)}: {done.stderr.strip()[-500:]}")


@cache
def packages() -> Path:
    """A folder with all that the extras need, by the hashes of requirements.lock; kept for next time."""
    pins = subprocess.check_output([sys.executable, ROOT / "deploy" / "locked.py", "all"])
    name = hashlib.sha256(pins + sys.version.encode()).hexdigest()[:16]
    folder = ROOT / ".cache" / "wheels" / name
    if not folder.is_dir():
        shutil.rmtree(folder.parent, ignore_errors=True)
        fresh = folder.with_name("fresh")
        fresh.mkdir(parents=True)
        (fresh / "pins.txt").write_bytes(pins)
        pip("download", "--require-hashes", "--only-binary", ":all:",
            "-d", str(fresh), "-r", str(fresh / "pins.txt"))  # fmt: skip
        fresh.rename(folder)
    return folder


class Environment:
    """A virtual environment with the wheel, some extras of it, and nothing else, not even pip."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        self.folder = folder
        self._python = folder / "venv" / "bin" / "python"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
        )
        wanted = f"{wheel}[{extras}]" if extras else str(wheel)
        pip("--python", str(self._python), "install", "--no-index", "--no-compile",
            "--find-links", str(packages()), wanted)  # fmt: skip

    def run(self, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, in a folder of its own and without our settings."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SAT_", "PYTHON"))
        } | {"XDG_STATE_HOME": str(self.folder / "state"), "PATH": os.defpath}
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        program, *rest = words
        return subprocess.run(
            [str(self._python.with_name(program)), *rest],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def python(self, code: str) -> str:
        """What `code` prints; a `Wrong` where it fails."""
        return self._well("python", "-c", code)

    def sat(self, *words: str) -> str:
        """What a command prints; a `Wrong` where it fails."""
        return self._well("sat", *words)

    def fails(self, *words: str, telling: str) -> None:
        """A command fails, and says `telling`, and shows no traceback."""
        done = self.run("sat", *words)
        said = done.stdout + done.stderr
        require(done.returncode != 0 and telling in said, f"sat {' '.join(words)} says: {said}")
        require("Traceback" not in said, said)

    def _well(self, *words: str) -> str:
        done = self.run(*words)
        require(done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def megabytes(self) -> float:
        """What is installed; no bytecode but of what has run."""
        installed = next((self.folder / "venv" / "lib").glob("python*")) / "site-packages"
        return sum(file.stat().st_size for file in installed.rglob("*") if file.is_file()) / 1e6


# -- what each extra is for ----------------------------------------------------------------------


def check_base(there: Environment) -> str:
    there.python("from sat_client import Rack")
    there.python("from importlib.metadata import entry_points\n"
                 "(backend,) = entry_points(group='sat_toolkit.backends')\nbackend.load()")  # fmt: skip
    there.fails("ls", telling="install sat-rack[cli]")
    require(there.megabytes < BASE_MB, f"it takes {there.megabytes:.1f} MB, more than {BASE_MB:g}")
    return f"{there.megabytes:.1f} MB"


def check_cli(there: Environment) -> str:
    there.sat("--help")
    there.fails("ls", "--broker", "mqtt://127.0.0.1:1", telling="no_broker")
    there.fails("host", "--family", "can", telling="install sat-rack[host]")
    there.fails("orchestrator", telling="install sat-rack[orchestrator]")
    there.fails("broker", "--kind", "embedded", telling="install sat-rack[broker]")
    return "looks"


def check_host(there: Environment) -> str:
    there.python("import sat_host.app, sat_host.worker.server")
    there.fails("doctor", telling="install sat-rack[can]")
    there.fails("doctor", telling="install sat-rack[serial]")
    return "serves plugins"


def check_can(there: Environment) -> str:
    there.fails("doctor", telling="loads; family can")  # there is no broker, which fails
    there.python("import sat_host.app, sat_cli.dbc, plugins.devices.can.sim_ecu")
    return "loads drv_socketcan"


def check_serial(there: Environment) -> str:
    there.fails("doctor", telling="loads; family serial")
    there.python("import sat_host.app, plugins.devices.serial.sim_console")
    return "loads drv_serial"


def check_orchestrator(there: Environment) -> str:
    there.python("import sat_orchestrator.app\nfrom sat_orchestrator.store.database import Database\n"
                 "Database('sqlite:///lab.db').open()")  # fmt: skip
    return "keeps a database"


def check_broker(there: Environment) -> str:
    there.python("from sat_cli.brokers.embedded import EmbeddedBroker\n"
                 "broker = EmbeddedBroker(port=0)\nbroker.start()\n"
                 "from sat_client import Rack\nRack(broker.url).open().close()\nbroker.stop()")  # fmt: skip
    return "is reached by a client"


def check_numpy(there: Environment) -> str:
    there.python(
        "import numpy\nfrom sat_client.batches import _record\nassert _record(24).itemsize"
    )
    return "has records"


def check_kit(there: Environment) -> str:
    there.sat("plugin", "new", "demo")
    return there.sat("plugin", "check", "demo/drv_demo.py").strip().splitlines()[-1]


def check_all(there: Environment) -> str:
    """A whole bench; and once more where another project owns a regular package `plugins`."""
    words = ("up", "--seconds", "6", "--broker-kind", "embedded")
    theirs = there.folder / "theirs"
    (theirs / "plugins").mkdir(parents=True)
    (theirs / "plugins" / "__init__.py").write_text("OWNER = 'them'\n")
    for path in (None, theirs):
        port = there.python(
            "from sat_cli.brokers.tcp_ports import find_free_port; print(find_free_port())"
        )
        done = there.run("sat", *words, "--port", port.strip(), path=path)
        require(done.returncode == 0, f"sat up with {path}: {done.stderr}")
    done = there.run("python", "-c", "import plugins; print(plugins.OWNER)", path=theirs)
    require(done.stdout == "them\n", f"their package is not theirs: {done.stdout}{done.stderr}")
    return "runs a bench, also beside another project's plugins"


CHECKS: dict[str, Callable[[Environment], str]] = {
    "base": check_base, "cli": check_cli, "host": check_host, "can": check_can,
    "serial": check_serial, "orchestrator": check_orchestrator, "broker": check_broker,
    "numpy": check_numpy, "kit": check_kit, "all": check_all,
}  # fmt: skip


def check(wheel: Path, part: str) -> str:
    """Check one part of the wheel in an environment of its own; what was seen."""
    with tempfile.TemporaryDirectory(prefix=f"sat-{part}-") as folder:
        return CHECKS[part](Environment(Path(folder), wheel, "" if part == "base" else part))


def main(argv: list[str]) -> int:
    """The program; its exit status."""
    wheel, parts = Path(argv[0]).resolve(), argv[1:] or list(CHECKS)
    say = sys.stderr.write
    try:
        say(f"ok      contents: {check_contents(wheel)}\n")
        for part in parts:
            began = time.monotonic()
            say(f"ok      {part}: {check(wheel, part)} ({time.monotonic() - began:.0f} s)\n")
    except Wrong as wrong:
        say(f"FAILED  {wrong}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
