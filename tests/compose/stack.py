"""docker-compose.yml as a project of its own on free ports, driven from outside by Mosquitto's own
clients."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any, Self

from testcontainers.compose import DockerCompose

from tests.e2e.rack import Observer, free_port

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
ECU = "sat/1/lab/dev/sim-can/drv_socketcan/ecu"
CONSOLE = "sat/1/lab/dev/sim-serial/drv_serial/console"
SERVICES = ("broker", "orchestrator", "sim-can", "sim-serial", "ecu", "console")
HOSTS = ("sim-can", "sim-serial")


def row_topic(device: str) -> str:
    """The table's row of the device whose topics begin with `device`."""
    return device.replace("/dev/", "/orch/table/")


class Stack:
    """The project from `up` to `down`. `override`: YAML that compose merges over the project's own
    file."""

    def __init__(self, folder: Path, override: str = "") -> None:
        self.name = f"sat-test-{secrets.token_hex(4)}"
        self.port, self.ws_port = free_port(), free_port()
        settings = folder / "settings.env"
        settings.write_text(
            f"COMPOSE_PROJECT_NAME={self.name}\nSAT_MQTT_PORT={self.port}\nSAT_WS_PORT={self.ws_port}\n"
        )
        files = ["docker-compose.yml"]
        if override:
            (folder / "override.yml").write_text(override.replace("{ws_port}", str(self.ws_port)))
            files.append(str(folder / "override.yml"))
        self._compose = DockerCompose(ROOT, files, build=True, env_file=str(settings))
        self._observer: Observer | None = None

    def __enter__(self) -> Self:
        try:
            self._compose.start()
            self._observer = Observer(self.port)
        except BaseException as error:
            if isinstance(error, subprocess.CalledProcessError):
                error.add_note((error.stderr or b"").decode(errors="replace")[-3000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer is not None:
            self._observer.close()
        self._compose.stop()

    @property
    def observer(self) -> Observer:
        """All that is on the bus since `up`."""
        assert self._observer is not None
        return self._observer

    def compose(self, *arguments: str) -> str:
        """``docker compose ...`` on this project; its standard output."""
        return run(*self._compose.compose_command_property, *arguments)

    def exec(self, service: str, command: str) -> str:
        """Run a shell command in the container of `service`."""
        return self.compose("exec", "-T", service, "sh", "-c", command)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of the project's containers, by service."""
        ids = self.compose("ps", "-aq").split()
        found = json.loads(run("docker", "inspect", *ids)) if ids else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def health(self, service: str) -> str:
        """``healthy``, ``unhealthy`` or ``starting``; ``none`` of a container without a
        healthcheck."""
        return str(self.containers()[service]["State"].get("Health", {}).get("Status", "none"))

    def publish(self, topic: str, payload: str) -> None:
        run("mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", topic, "-m", payload)

    def ask(self, topic: str, payload: str, reply_topic: str) -> dict[str, Any]:
        """Publish a request and wait for the next message on `reply_topic`."""
        seen = self.observer.count(reply_topic)
        self.publish(topic, payload)
        self.observer.wait(
            lambda: self.observer.count(reply_topic) > seen, f"a reply on {reply_topic}"
        )
        return self.observer.json(reply_topic)

    def logs(self) -> str:
        return self.compose("logs", "--tail", "30")


def run(*argv: str) -> str:
    """Run a program to its end; its standard output. Fails with what it said when its exit status
    is not 0."""
    done = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr[-3000:]}"
    return done.stdout


def plain_environment() -> dict[str, str]:
    """The environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SAT_")}
