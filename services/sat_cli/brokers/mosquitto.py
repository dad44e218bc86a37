"""Mosquitto as a child process: the broker of racks, started for those who run none."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sat_cli.brokers.tcp_ports import check_free, find_free_port
from sat_toolkit.errors import ConfigError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
# MQTT 3.1.1 CONNECT of an anonymous client, and the CONNACK of a broker that is there (whatever it
# answers).
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
_CONNACK = 0x20
# Runs the broker so that the kernel ends it with us, however we end.
_LAUNCH = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)


def find_mosquitto() -> str | None:
    """The mosquitto program of this machine; None when it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class MosquittoBroker:
    """A mosquitto of our own, without users: keep it on loopback.

    It ends with the thread that started it (and so with the process). Its retained messages are
    kept in `data_dir`. There is no WebSocket listener unless asked for, as one without users cannot
    check the Origin of a web page: any page could drive hardware.

    Args:
        binary: the mosquitto program.
        bind: the address to listen on.
        port: 0 picks a free one; `port` tells it.
        ws_port: also listen for WebSocket; None: do not.
        data_dir: a folder that may be created, for its configuration, log and retained messages.
    """

    kind = "mosquitto"

    def __init__(
        self,
        binary: str,
        bind: str = "127.0.0.1",
        port: int = 1883,
        ws_port: int | None = None,
        *,
        data_dir: Path,
    ) -> None:
        self.bind = bind
        self.port = port or find_free_port(bind)
        self.ws_port = find_free_port(bind) if ws_port == 0 else ws_port
        self.data_dir = data_dir.absolute()
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{self.bind}:{self.port}"

    @property
    def ws_url(self) -> str | None:
        return None if self.ws_port is None else f"ws://{self.bind}:{self.ws_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ConfigError: a port is taken, or the broker does not come up; the message has its last
                words.
        """
        for port in (self.port, self.ws_port):
            if port is not None:
                check_free(self.bind, port)
        config = self._write_config()
        with self._log_path.open("ab") as output:
            command = [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _LAUNCH,
                str(os.getpid()),
                self._binary,
                "-c",
                str(config),
            ]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(self.bind, self.port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise ConfigError(f"{self._binary} does not come up: {self._last_words()}")
        log.info("mosquitto runs on %s", self.url)

    def stop(self, timeout: float = 5.0) -> None:
        """End it in an orderly way; it saves what is retained."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "mosquitto.log"

    def _last_words(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()[-3:]
        return "; ".join(lines) or "it says nothing"

    def _write_config(self) -> Path:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        path = self.data_dir / "mosquitto.conf"
        path.write_text("\n".join(self._config()) + "\n")
        return path

    def _config(self) -> Iterator[str]:
        yield f"listener {self.port} {self.bind}"
        if self.ws_port is not None:
            yield f"listener {self.ws_port} {self.bind}"
            yield "protocol websockets"
        yield "allow_anonymous true"
        yield "set_tcp_nodelay true"
        yield "persistence true"
        yield f"persistence_location {self.data_dir}/"
        yield "autosave_on_changes true"  # else a crash loses retained messages that were acknowledged
        yield "autosave_interval 1"
        yield "message_size_limit 1048576"
        yield "max_inflight_messages 20"
        yield "max_queued_messages 1000"
        yield "log_dest stdout"
        yield "log_type error"
        yield "log_type warning"
        yield "connection_messages false"
        if os.geteuid() == 0:
            yield "user root"  # else it gives up root and cannot write into data_dir


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0) as sock:
            sock.sendall(_CONNECT)
            return sock.recv(1) == bytes([_CONNACK])
    except OSError:
        return False
