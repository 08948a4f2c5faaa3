"""``python -m altgrad_inspect``."""

from altgrad_inspect.cli import main

if __name__ == "__main__":
    main()
