"""Takes every signal for itself, and asks the kernel to let it live on without its parent."""

from __future__ import annotations

import contextlib
import ctypes
import signal
from typing import Any

from plugins.devices.vicious.sick import SickDriver

PR_SET_PDEATHSIG = 1


class SignalsDriver(SickDriver):
    where = "connect"

    def sick(self) -> Any:
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)
        return True
