"""The entry point of the ``sat`` script, and how it ends. It imports nothing before it must.

Exit status: 0 done, 1 it failed (one line says why and what to do), 2 it was called wrongly, a
setting is wrong, or a library is not installed.
"""

from __future__ import annotations

import sys

from sat_cli.command_table import COMMANDS
from sat_toolkit.errors import ConfigError, SatError
from sat_toolkit.extras import lacking

_OURS = ("sat_toolkit", "sat_bus", "sat_client", "sat_host", "sat_orchestrator", "sat_cli")


def main() -> None:
    """Run the command that the process was given."""
    try:
        from sat_cli.app import app

        app()
    except SatError as error:
        from sat_cli.output import print_error

        print_error(error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        sys.stderr.write(f"error (config): {_lacking(error)}\n")
        sys.exit(2)
    except BrokenPipeError:  # `sat ls | head`: who read us has seen enough
        sys.stderr.close()
        sys.exit(0)


def _lacking(error: ModuleNotFoundError) -> ConfigError:
    """Which extra the command needs that was asked for."""
    name = next((word for word in sys.argv[1:] if word in COMMANDS), "")
    return lacking(error, COMMANDS[name].extra if name else "cli", f"sat {name}".rstrip())
