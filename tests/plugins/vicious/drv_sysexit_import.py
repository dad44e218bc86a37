"""Is a script that was never meant to be imported."""

import sys

from plugins.devices.vicious.sick import note

note(__name__.rpartition(".")[2])
sys.exit("usage: sysexit_import FILE")
