"""``python -m sat_cli``: the ``sat`` command where its script is not on the PATH."""

import sys

if not sys.flags.safe_path:
    # Python has put the current folder first. The script does not: a can.py there is not ours.
    del sys.path[0]

from sat_cli.main import main

main()
