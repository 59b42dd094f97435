"""The `dalston` command."""

from __future__ import annotations

import sys

from dalston_engine.errors import DalstonError


def main() -> None:
    """Run the command line; an error of ours becomes one sentence on stderr and exit code 1."""
    from dalston.cli.app import app

    try:
        app()
    except DalstonError as error:
        print(f"dalston: {error.message}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"dalston: {error.strerror or type(error).__name__}{where}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
