"""Takes a minute to import."""

import time

from plugins.devices.vicious.sick import SickDriver, note

note(__name__.rpartition(".")[2])
time.sleep(60)


class SlowImportDriver(SickDriver):
    pass
