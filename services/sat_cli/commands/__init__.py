"""One module per topic of the ``sat`` command; each function's docstring is its ``--help``."""
