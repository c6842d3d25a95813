"""The command line. Data goes to stdout, talk to stderr; exit codes are those of `labctl.errors.ExitCode`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `labctl` command."""
    from labctl.cli.app import app
    from labctl.errors import LabctlError

    try:
        app(prog_name="labctl")
    except LabctlError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        print("stopped by the user", file=sys.stderr)  # noqa: T201
        sys.exit(3)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
