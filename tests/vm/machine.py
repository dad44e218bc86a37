"""A virtual machine with a real CAN stack, and commands run in it: `scripts/vm run`, and the tests
of this folder.

QEMU boots what `scripts/vm build` made. KVM is used where it works, software emulation (TCG)
elsewhere; `SAT_VM_ACCEL` chooses one of them. Two emulated Kvaser cards share one CAN bus
(`modprobe kvaser_pci` makes them can0, can1, ...). The disks are written to a temporary copy: every
boot finds them as they were built. The machine ends with this object, and also when the process
that has it dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.vm import wire
from tests.vm.process import TIMEOUT_S, Done, Process, VMError

__all__ = ["CARDS", "Done", "Image", "Machine", "Options", "Process", "VMError", "accelerators"]

ROOT = Path(__file__).resolve().parents[2]
BROKER_PORT = 1883
BOOT_S = {"kvm": 20.0, "tcg": 90.0}
CARDS = {"card0": "0x10", "card1": "0x11"}  # with their PCI slots


@dataclass(frozen=True)
class Image:
    """What a machine boots from, as `scripts/vm build` prints it: one path for each part."""

    base: Path
    deps: Path
    sat: Path

    @classmethod
    def build(cls) -> Self:
        """Bring the image up to date with the tree; quick when nothing changed."""
        done = subprocess.run([ROOT / "scripts" / "vm", "build"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise VMError("scripts/vm build failed, see above")
        return cls(*map(Path, done.stdout.split("\n")[:3]))


@dataclass(frozen=True)
class Options:
    """What may differ between machines.

    Attributes:
        share: a folder of ours that the guest sees as /share, to read and write.
        systemd: it runs as the guest's first process.
    """

    memory_mb: int = 1024
    cpus: int = 2
    share: Path | None = None
    systemd: bool = False
    accelerators: Sequence[str] = field(default_factory=lambda: accelerators())


def accelerators() -> list[str]:
    """Those to try, in this order."""
    if wanted := os.environ.get("SAT_VM_ACCEL"):
        if wanted not in BOOT_S:
            raise VMError(f"SAT_VM_ACCEL must be one of {', '.join(BOOT_S)}, not {wanted!r}")
        return [wanted]
    # Some machines have a /dev/kvm that runs no stock kernel; their processors show no support for
    # guests.
    hardware = re.search(
        r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE
    )
    return ["kvm", "tcg"] if hardware and os.access("/dev/kvm", os.R_OK | os.W_OK) else ["tcg"]


class Machine:
    """The running virtual machine. `accelerator` says which one runs it, `boot_s` how long the boot
    took."""

    def __init__(self, image: Image, options: Options | None = None) -> None:
        self._image = image
        self._options = Options() if options is None else options
        self._folder = Path(tempfile.mkdtemp(prefix="sat-vm-"))
        self._console = self._folder / "console"
        self._errors = self._folder / "errors"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._held: socket.socket | None = None
        self._token = ""
        self._ports: dict[int, int] = {}
        self._served: list[str] = []
        self.accelerator = ""
        self.boot_s = 0.0

    def __enter__(self) -> Self:
        try:
            self._boot_somehow()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def broker_url(self) -> str:
        """Where the guest's port 1883 is reached from here."""
        return f"mqtt://127.0.0.1:{self.broker_port}"

    @property
    def broker_port(self) -> int:
        return self._ports[BROKER_PORT]

    # --- commands --------------------------------------------------------------------------------------

    def start(
        self,
        *argv: str,
        timeout: float = 600.0,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Process:
        """Start a command, which the guest ends after `timeout` seconds."""
        connection = self._connect()
        request = {
            "token": self._token,
            "argv": argv,
            "timeout": timeout,
            "env": dict(env or {}),
            "cwd": cwd,
        }
        wire.send_json(connection, wire.REQUEST, request)
        return Process(connection, " ".join(argv))

    def run(
        self, *argv: str, timeout: float = TIMEOUT_S, env: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command to its end, however it ends."""
        with self.start(*argv, timeout=timeout, env=env) as process:
            process.end_input()
            return process.wait(timeout + TIMEOUT_S)

    def check(
        self, *argv: str, timeout: float = TIMEOUT_S, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command that must succeed; what it wrote on standard output."""
        done = self.run(*argv, timeout=timeout, env=env)
        if done.status != 0:
            how = (
                f"not over after {timeout:g} s" if done.status is None else f"status {done.status}"
            )
            raise VMError(f"{' '.join(argv)}: {how}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout

    def shell(self, script: str, timeout: float = TIMEOUT_S) -> str:
        """Run a shell script that must succeed, stopping at the first command that fails."""
        return self.check("sh", "-euc", script, timeout=timeout)

    def serve(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a program that runs for long; its output goes to a file that `logs` shows."""
        self._served.append(name)
        script = f'exec "$@" >/tmp/{name}.log 2>&1'
        return self.start("sh", "-c", script, "sh", *argv, env=env, timeout=3600.0)

    def logs(self) -> str:
        """The last lines of what was served and of the kernel, for a person who looks into a
        failure."""
        try:
            logs = self.run(
                "tail", "-n", "40", *(f"/tmp/{name}.log" for name in self._served)
            ).stdout
            if self._options.systemd:
                logs += self.run("journalctl", "--no-pager", "--unit=sat-*", "--lines=60").stdout
            return f"{self.accelerator}\n{logs}\n==> kernel <==\n{self.shell('dmesg | tail -n 15')}"
        except (VMError, OSError) as error:
            return f"{error}\n{self._last_lines()}"

    def console(self) -> str:
        """What the kernel and the boot wrote."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    # --- hardware --------------------------------------------------------------------------------------

    def control(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU itself (QMP), such as ``control("device_del", id="card0")``."""
        assert self._control is not None
        request = {"execute": command, "arguments": arguments}
        self._control.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(_line(self._control))
            if "error" in answer:
                raise VMError(f"QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def pull(self, card: str) -> None:
        """Take a Kvaser card of `CARDS` out of the running machine."""
        self.control("device_del", id=card)
        deadline = time.monotonic() + TIMEOUT_S
        while any(
            part["name"] == card for part in self.control("qom-list", path="/machine/peripheral")
        ):
            if time.monotonic() > deadline:
                raise VMError(f"the guest does not let go of {card}")
            threading.Event().wait(0.05)

    def plug(self, card: str) -> None:
        """Put it back into its slot."""
        self.control("device_add", driver="kvaser_pci", canbus="bus0", id=card, addr=CARDS[card])

    # --- boot and end ----------------------------------------------------------------------------------

    def _boot_somehow(self) -> None:
        failures: list[str] = []
        for accelerator in self._options.accelerators:
            started = time.monotonic()
            try:
                self._boot(accelerator, started + BOOT_S[accelerator])
            except (VMError, OSError) as error:
                self._power_off()
                failures.append(
                    f"{accelerator}: {error} {self._errors.read_text(errors='replace').strip()}"
                )
            else:
                self.accelerator, self.boot_s = accelerator, time.monotonic() - started
                return
        raise VMError("the virtual machine did not boot. " + "\n".join(failures))

    def _boot(self, accelerator: str, deadline: float) -> None:
        self._console.unlink(missing_ok=True)
        socket_path = self._folder / "control"
        socket_path.unlink(missing_ok=True)
        with self._errors.open("wb") as stderr:
            argv = self._argv(accelerator, socket_path)
            self._qemu = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
            )
        self._wait_for(socket_path.exists, "QEMU's control socket", deadline)
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(TIMEOUT_S)
        self._wait_for(lambda: self._connects(socket_path), "QEMU's control socket", deadline)
        _line(self._control)
        self.control("qmp_capabilities")
        pattern = re.compile(rf"^{wire.READY} (\w+)\s*$", re.MULTILINE)
        self._wait_for(lambda: pattern.search(self.console()), "the agent", deadline)
        found = pattern.search(self.console())
        assert found is not None
        self._token = found[1]
        table = self.control("human-monitor-command", **{"command-line": "info usernet"})
        for host, guest in re.findall(r"HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", table):
            self._ports[int(guest)] = int(host)
        self._held = self._connect()
        wire.send_json(self._held, wire.REQUEST, {"token": self._token, "hold": True})
        if wire.receive(self._held) is None:
            raise VMError(f"the agent is gone. {self._last_lines()}")

    def _connects(self, path: Path) -> bool:
        assert self._control is not None
        try:
            self._control.connect(str(path))
        except OSError:
            return False
        return True

    def _wait_for(self, condition: Callable[[], Any], what: str, deadline: float) -> None:
        pause = threading.Event()
        while not condition():
            assert self._qemu is not None
            if self._qemu.poll() is not None:
                raise VMError(f"QEMU ended. {self._last_lines()}")
            if time.monotonic() > deadline:
                raise VMError(f"{what} did not come in time. {self._last_lines()}")
            pause.wait(0.05)

    def _last_lines(self) -> str:
        lines = self.console().strip().split("\n")[-15:]
        return "\n".join(["Its console's last lines:", *lines, ""])

    def _argv(self, accelerator: str, control: Path) -> list[str]:
        options, base = self._options, self._image.base
        words = " share" * (options.share is not None) + " systemd" * options.systemd
        forwards = ",".join(
            f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in (wire.AGENT_PORT, BROKER_PORT)
        )
        argv = ["nice", "-n", "10", "qemu-system-x86_64"]  # what measures beside it comes first
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi"]
        argv += ["-cpu", "host" if accelerator == "kvm" else "max"]
        argv += ["-m", str(options.memory_mb), "-smp", str(options.cpus)]
        argv += ["-kernel", str(base / "vmlinuz"), "-initrd", str(base / "initrd")]
        argv += ["-append", f"console=ttyS0 panic=-1 loglevel=6{words}"]
        argv += ["-serial", f"file:{self._console}", "-qmp", f"unix:{control},server=on,wait=off"]
        for disk in (base / "root.ext4", self._image.deps, self._image.sat):
            argv += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on"]
        argv += [
            "-netdev",
            f"user,id=net,restrict=on,{forwards}",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
        argv += [
            "-virtfs",
            f"local,path={ROOT},mount_tag=tree,security_model=none,readonly=on,multidevs=remap",
        ]
        if options.share is not None:
            share_path = options.share.resolve()
            argv += [
                "-virtfs",
                f"local,path={share_path},mount_tag=share,security_model=none,multidevs=remap",
            ]
        argv += ["-object", "can-bus,id=bus0"]
        for card, slot in CARDS.items():
            argv += ["-device", f"kvaser_pci,canbus=bus0,id={card},addr={slot}"]
        return argv

    def _connect(self) -> socket.socket:
        try:
            connection = socket.create_connection(
                ("127.0.0.1", self._ports[wire.AGENT_PORT]), TIMEOUT_S
            )
        except OSError as error:
            status = self._qemu.poll() if self._qemu is not None else None
            state = "still runs" if status is None else f"ended with {status}"
            raise VMError(
                f"no agent in the virtual machine, QEMU {state}: {error}. {self._last_lines()}"
            ) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _power_off(self) -> None:
        for connection in (self._held, self._control):
            if connection is not None:
                connection.close()
        self._held = self._control = None
        qemu, self._qemu = self._qemu, None
        if qemu is not None:
            qemu.kill()
            qemu.wait(TIMEOUT_S)

    def close(self) -> None:
        self._power_off()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)


def _line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            raise VMError("QEMU closed its control connection")
        line += part
    return bytes(line)
