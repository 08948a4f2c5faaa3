"""What the user named as the run."""

from collections.abc import Sequence


def choose_target(run: Sequence[str] | None) -> str | list[str]:
    """Return the one argument as it is, several as a list, and ``.`` for none."""
    if not run:
        return "."
    return run[0] if len(run) == 1 else list(run)
