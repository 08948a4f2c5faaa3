"""What every test may use: golden files, and the option that rewrites them."""

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what is produced"
    )


@pytest.fixture
def assert_golden(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """Compare text with ``tests/golden/<name>``, or rewrite that under ``--update-golden``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if pytestconfig.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} differs: see --update-golden"

    return check
