"""The port of a simulated device: raw, behind a link, and never in the way of a file."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.devices.pty_link import PtyLink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "port"


@pytest.fixture
def link(path: Path) -> Iterator[PtyLink]:
    made = PtyLink(path)
    yield made
    made.close()


def test_bytes_go_both_ways_as_they_are(link: PtyLink, path: Path) -> None:
    client = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(client, b"a\r\n\x03")
        assert select.select([link], [], [], 10.0)[0]
        assert link.read() == b"a\r\n\x03"
        assert link.write(b"\x04b\n") == 3
        assert os.read(client, 16) == b"\x04b\n"
    finally:
        os.close(client)


def test_nothing_waits_for_a_client(link: PtyLink) -> None:
    assert link.read() == b""
    while link.write(bytes(4096)):  # nobody reads: it fills the line
        pass
    assert link.write(b"x") == 0


def test_an_older_link_is_replaced_and_only_ones_own_is_removed(link: PtyLink, path: Path) -> None:
    newer = PtyLink(path)
    assert os.readlink(path) == newer.port
    older = PtyLink(path.with_name("other"))
    path.with_name("other").unlink()
    path.with_name("other").symlink_to(newer.port)
    older.close()
    assert path.with_name("other").is_symlink()
    newer.close()
    assert not path.is_symlink()


def test_a_file_in_the_way_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a symbolic link"):
        PtyLink(path)
    assert path.read_text() == "precious"
