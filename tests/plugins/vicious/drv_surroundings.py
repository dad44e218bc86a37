"""Changes its folder, then removes it, and its umask, environment, import path and standard output."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from typing import Any

from plugins.devices.vicious.sick import SickDriver


class SurroundingsDriver(SickDriver):
    where = "connect"

    def sick(self) -> Any:
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        shutil.rmtree(folder)
        os.umask(0o777)
        os.environ.clear()
        sys.path.clear()
        sys.stdout = io.StringIO()
        sys.stderr = None  # type: ignore[assignment]
        return True
