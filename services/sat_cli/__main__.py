"""``python -m sat_cli``: the ``sat`` command where its script is not on the PATH."""

from sat_cli.main import main

main()
