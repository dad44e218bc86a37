"""A network of two machines: this one, and a network namespace at the other end of a cable that can
be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import Literal, Self

import pytest

Cut = Literal["down", "silent"]
_NOBODY = "02:00:00:00:00:01"


class Link:
    """A network namespace and a veth pair to it, named after this process; both are gone
    afterwards.

    Attributes:
        here, there: the addresses of the two ends.
        inside: what a command is put behind to run at the other end. It keeps its process id, and
            everything but the network is the same there.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"sat-{number}"
        subnet = f"198.18.{number >> 6 & 255}"  # for tests of networks: nobody routes it
        self.here, self.there = (f"{subnet}.{(number << 2 & 252) + end}" for end in (1, 2))
        self._near, self._far = f"satn{number}", f"satf{number}"
        self.inside = ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    def __enter__(self) -> Self:
        need_namespaces()
        try:
            ip("netns", "add", self.name)
            ip(
                "link",
                "add",
                self._near,
                "type",
                "veth",
                "peer",
                "name",
                self._far,
                "netns",
                self.name,
            )
            ip("addr", "add", f"{self.here}/30", "dev", self._near)
            ip("-n", self.name, "addr", "add", f"{self.there}/30", "dev", self._far)
            ip("link", "set", self._near, "up")
            ip("-n", self.name, "link", "set", self._far, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for words in (("link", "del", self._near), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was not made
                ip(*words)

    def cut(self, how: Cut) -> None:
        """``down``: the other end's interface goes down. ``silent``: nothing arrives, and nobody is
        told."""
        if how == "down":
            ip("-n", self.name, "link", "set", self._far, "down")
            return
        self._neighbours("replace", "lladdr", _NOBODY, "nud", "permanent")

    def heal(self, how: Cut) -> None:
        """Undo `cut`."""
        if how == "down":
            ip("-n", self.name, "link", "set", self._far, "up")
            return
        self._neighbours("del")

    def _neighbours(self, action: str, *words: str) -> None:
        """What each end thinks the hardware address of the other is."""
        ip("neigh", action, self.there, *words, "dev", self._near)
        ip("-n", self.name, "neigh", action, self.here, *words, "dev", self._far)


def need_namespaces() -> None:
    """Skip the test where network namespaces cannot be made."""
    missing = [program for program in ("ip", "nsenter") if shutil.which(program) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not on the PATH (Debian: apt-get install iproute2 util-linux)"
        )
    if os.geteuid() != 0:
        pytest.skip("a network namespace takes root")


def ip(*words: str) -> None:
    """Run ``ip``; what it says is in the exception."""
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
