"""Starts a program that ends with its parent, however the parent ends. Run as a file, with a bare
interpreter.

    python -I -S leash.py PARENT_PID PROGRAM ARGS...

The kernel's parent-death signal survives exec, so this process becomes PROGRAM. It imports nothing
but the standard library: it stands between `sat up` and programs that need not be Python.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NOT_FOUND = 127  # as the shell says it


def main() -> None:
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the leash was on
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - there is no shell on purpose
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        sys.exit(_NOT_FOUND)


if __name__ == "__main__":
    main()
