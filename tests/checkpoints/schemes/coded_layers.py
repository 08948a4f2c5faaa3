"""Steps that the tests of the storage schemes share."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

import altgrad_inspect as ai
from altgrad_inspect.checkpoints.checkpoint import Checkpoint, open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer
from tests.checkpoints.schemes.flip_oracle import Stored, count_flips


def open_only(path: Path) -> Checkpoint:
    return open_checkpoint(discover_run([path]).checkpoints[0])


def load_layer(path: Path, name: str) -> LoadedLayer:
    """One layer of a checkpoint, decoded."""
    with LayerReader(torch.device("cpu")) as reader:
        return reader.load(open_only(path).layers[name])


def check_decoded(path: Path, name: str, stored: Stored, values: dict[int, float]) -> None:
    """The ordinals are the expected ones, and the weights follow bit for bit."""
    loaded = load_layer(path, name)
    assert loaded.coded is not None
    assert loaded.values.shape == stored.code.shape
    ordinals = loaded.coded.ordinals.reshape(stored.code.shape)
    assert np.array_equal(ordinals.numpy(), stored.code)
    assert np.array_equal(loaded.values.numpy(), stored.weights(values))


def check_flips(
    run: Path, name: str, stored: Sequence[Stored], values: dict[int, float], *, fmt: str
) -> None:
    """The flips table counts what the oracle counts, and there is something to count."""
    rows = ai.flips(run, layers=[name]).to_pandas("flips")
    assert set(rows["quantizer"]) == {f"stored:{fmt}"}
    assert len(rows) == len(stored) - 1
    for row, (earlier, later) in zip(rows.itertuples(), pairwise(stored), strict=True):
        expected = count_flips(earlier, later, values)
        assert expected["num_flipped"] > 0
        assert {one: getattr(row, one) for one in expected} == expected
        assert row.num_weights == stored[0].code.size
        assert row.status == "ok"
