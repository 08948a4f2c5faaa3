"""The same flips on a CUDA device as on the CPU: all counts are identical."""

from dataclasses import asdict
from itertools import pairwise

import pytest
import torch

from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.spec import parse_quantizer
from altgrad_inspect.records import FlipCounts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SPECS = (
    *("e4m3", "e5m2", "float8_e4m3fnuz", "e2m1", "e3m4", "e1m6", "e5m10", "e7m0", "int8", "int4"),
    *("e4m3:channel", "e2m1:group=32:pow2", "e4m3:block=128x128"),
)
SHAPES = ((1, 7), (300, 200), (64, 5000))


def count(weights: list[torch.Tensor], spec: str) -> list[FlipCounts]:
    meter = FlipMeter(parse_quantizer(spec), tuple(weights[0].shape))
    meter.start(weights[0])
    return [meter.advance(earlier, later) for earlier, later in pairwise(weights)]


def assert_same(weights: list[torch.Tensor], spec: str) -> None:
    on_cpu = count(weights, spec)
    on_gpu = count([weight.cuda() for weight in weights], spec)
    for expected, found in zip(on_cpu, on_gpu, strict=True):
        for name, value in asdict(expected).items():
            if isinstance(value, float):  # sums differ in the order of the additions
                assert asdict(found)[name] == pytest.approx(value, rel=1e-5, nan_ok=True), name
            else:
                assert asdict(found)[name] == value, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_counts_are_identical(spec: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(shape, generator=generator)
    moves = [1e-3 * step * torch.randn(shape, generator=generator) for step in range(4)]
    assert_same([(base + move).to(dtype) for move in moves], spec)


@pytest.mark.parametrize("spec", SPECS)
def test_every_bfloat16_counts_the_same(spec: str) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    shuffled = every[torch.randperm(1 << 16, generator=torch.Generator().manual_seed(1))]
    assert_same([every.reshape(256, 256), shuffled.reshape(256, 256)], spec)
