"""``altgrad-inspect`` and ``python -m altgrad_inspect``: the command line as a process."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from altgrad_inspect.cli import app
from altgrad_inspect.cli.guard import run_guarded


def main() -> NoReturn:
    """Run the command line and end the process with its status, at once.

    Python would take torch apart first, which takes 0.4 s and puts nothing away that is still of
    use: every file is closed by then, and everything printed is flushed.
    """
    status = run_guarded(app)
    with suppress(OSError, ValueError):  # nobody listens any more
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
