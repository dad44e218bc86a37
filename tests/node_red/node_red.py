"""A real Node-RED for tests: of the version that `package-lock.json` names, on the loopback, used
by its admin API."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from tests import npm
from tests.e2e.rack import DEADLINE, Program, free_port
from tests.waiting import eventually

HOME = Path(__file__).resolve().parent
ROOT = HOME.parents[1]
FLOW = ROOT / "deploy" / "node-red" / "flow.json"
START_TIMEOUT_S = 60.0
_SETTINGS = {
    "uiHost": "127.0.0.1",
    "flowFile": "flow.json",
    "credentialSecret": False,
    "telemetry": {"enabled": False, "updateNotification": False},
    "editorTheme": {"tours": False},
    "externalModules": {"autoInstall": False, "palette": {"allowInstall": False}},
}


def installed() -> Path:
    """The folder into which npm has put Node-RED, as the lock file names it."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH (Debian: apt-get install nodejs npm)")
    folder = ROOT / ".cache" / "node-red"
    npm.install(HOME, folder)
    return folder


def flow(port: int) -> list[dict[str, Any]]:
    """The shipped flow, its broker node changed as its user would change it."""
    nodes: list[dict[str, Any]] = json.loads(FLOW.read_text())
    (broker,) = (node for node in nodes if node["type"] == "mqtt-broker")
    broker.update(broker="127.0.0.1", port=str(port))
    return nodes


class NodeRed:
    """A Node-RED with a user folder of its own, without a flow at first."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        settings = folder / "settings.js"
        settings.write_text(f"module.exports = {json.dumps(_SETTINGS)};\n")
        program = installed() / "node_modules" / "node-red" / "red.js"
        options = ["--userDir", str(folder), "--settings", str(settings), "--port", str(self.port)]
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("NODE_RED_")
        }
        self.program = Program("node-red", ["node", str(program), *options], env, folder)

    def __enter__(self) -> Self:
        self.program.start()
        if not eventually(self._answers, START_TIMEOUT_S):
            self.__exit__()
            raise AssertionError(f"Node-RED does not come up: {self.program.tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()

    def _answers(self) -> bool:
        assert self.program.running, self.program.tail()
        try:
            return isinstance(self.call("GET", "/flows"), dict)
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API; what it answers, None for nothing."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Node-RED-API-Version": "v2",
            },
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            text = response.read()
        return json.loads(text) if text.startswith((b"{", b"[")) else None

    def deploy(self, nodes: list[dict[str, Any]]) -> None:
        """Put `nodes` in the place of all that it runs."""
        self.call("POST", "/flows", {"flows": nodes})

    def shown(self, tab: str, key: str) -> Any:
        """What the flow keeps under `key`, as the editor's sidebar shows it; None before there is
        anything."""
        answer = self.call("GET", f"/context/flow/{tab}/{key}")
        return None if answer["format"] == "undefined" else json.loads(answer["msg"])

    def press(self, node: str, payload: Any = None) -> None:
        """Press the button of an inject node; with `payload`, as if that stood in it."""
        props = [{"p": "payload", "v": json.dumps(payload), "vt": "json"}]
        self.call(
            "POST", f"/inject/{node}", {} if payload is None else {"__user_inject_props__": props}
        )

    def logs(self) -> str:
        return self.program.tail()
