"""Whether this user may use a port, and if not, what to do about it. Opens nothing."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

_GROUP_RW = stat.S_IRGRP | stat.S_IWGRP


def access_problem(path: Path) -> str | None:
    """What keeps this user from reading and writing `path`, and the command that mends it; None
    when nothing does."""
    if os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return None
    try:
        status = path.stat()
    except OSError as error:
        return str(error)
    user = _user_name(os.geteuid())
    return advice(path, status.st_mode, _user_name(status.st_uid), _group_name(status.st_gid), user)


def advice(path: Path, mode: int, owner: str, group: str, user: str) -> str:
    """The words for a port that `user` may not use."""
    if mode & _GROUP_RW == _GROUP_RW and group != "root":
        return (
            f"{user} may not use {path}. It belongs to group {group}: as root, `usermod -aG {group} {user}`, "
            "then log in anew"
        )
    return f'{user} may not use {path}. Only {owner} may: a udev rule with GROUP="dialout", MODE="0660" opens it'


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
