"""Counting the flips of one transition, against copying the bytes and against log2 and pow.

The floor is a copy that moves as many bytes as one pass must: both checkpoints and two code
tensors in, the two code tensors out; 12 bytes a weight for float32. It is measured twice: of
arrays that no cache holds, and of a piece that the second-level cache does.
"""

import os
from collections.abc import Callable
from itertools import cycle

import pytest
import torch
from torch import Tensor

from altgrad_inspect.formats import FloatFormat
from altgrad_inspect.metrics.flips import FlipMeter
from altgrad_inspect.quantize.rules import fit_scales
from altgrad_inspect.quantize.scales import view_for
from altgrad_inspect.quantize.spec import parse_quantizer
from tests.benchmarks.timing import interleave, show

SIDE = 4096
NUM_WEIGHTS = SIDE * SIDE
CACHED_BYTES = 1 << 19
FORMATS = ("e4m3", "e5m2", "e2m1", "e3m4", "e7m0", "int8", "fp16")
SCALES = (
    "e4m3:tensor:pow2",
    "e4m3:channel",
    "e4m3:block=1x128",
    "e4m3:block=128x128",
    "e2m1:group=32",
)


def quantize_by_logarithm(weights: Tensor, fmt: FloatFormat) -> Tensor:
    """What one writes first: the exponent by log2, the step by pow, whole tensors at a time."""
    scaled = weights / (weights.abs().max() / fmt.max)
    lowest = 1 - fmt.bias
    magnitude = scaled.abs().clamp(max=fmt.max)
    exponent = torch.floor(torch.log2(magnitude.clamp(min=2.0**lowest))).clamp(min=lowest)
    step = torch.pow(2.0, exponent - fmt.mantissa_bits)
    return torch.sign(scaled) * torch.round(magnitude / step) * step


def count_by_logarithm(pair: tuple[Tensor, Tensor], fmt: FloatFormat) -> int:
    before, after = (quantize_by_logarithm(weights.float(), fmt) for weights in pair)
    return int((before != after).sum())


def copy_in_cache(num_bytes: int) -> Callable[[], object]:
    """Copy one small piece until ``num_bytes`` were read and written."""
    source = torch.ones(CACHED_BYTES // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    times = range(max(1, num_bytes // CACHED_BYTES))
    return lambda: [target.copy_(source) for _ in times]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spec", [*FORMATS, *SCALES])
def test_one_transition(spec: str, dtype: torch.dtype) -> None:
    if dtype is not torch.float32 and spec != "e4m3" and not os.environ.get("BENCH_LARGE"):
        pytest.skip("BENCH_LARGE=1 asks for it")
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    base = 0.02 * torch.randn(SIDE, SIDE, generator=generator)
    moved = base + 3e-5 * torch.randn(SIDE, SIDE, generator=generator)
    pair = base.to(dtype), moved.to(dtype)
    quantizer = parse_quantizer(spec)
    code_bytes = 1 if quantizer.fmt.bits <= 8 else 2
    bytes_moved = NUM_WEIGHTS * (2 * dtype.itemsize + 4 * code_bytes)
    source = torch.ones(bytes_moved // 2, dtype=torch.uint8)
    target = torch.empty_like(source)
    view = view_for(quantizer, num_matrices=1, rows=SIDE, cols=SIDE)
    ways: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(source),
        "cached copy": copy_in_cache(bytes_moved),
        "scales": lambda: fit_scales(pair[0].reshape(view.shape), quantizer, view),
    }
    for name, compiled in (("kernel", True), ("torch", False)):
        ways[name] = follow(FlipMeter(quantizer, (SIDE, SIDE), compiled=compiled), pair)
    fmt = quantizer.fmt
    if isinstance(fmt, FloatFormat) and ":" not in spec:
        ways["log2"] = lambda: count_by_logarithm(pair, fmt)
    seconds = interleave(ways, budget=6.0)
    floor, cached = seconds.pop("copy"), seconds.pop("cached copy")
    for name, value in seconds.items():
        show(
            "flips",
            f"{spec} {str(dtype).removeprefix('torch.')} {name}",
            seconds=value,
            floor=floor,
            times_cached_copy=value / cached,
            Mweights_per_s=NUM_WEIGHTS / value / 1e6,
            GB_per_s=bytes_moved / value / 1e9,
            **({"times_slower_log2": seconds["log2"] / value} if "log2" in seconds else {}),
        )


def follow(meter: FlipMeter, pair: tuple[Tensor, Tensor]) -> Callable[[], object]:
    """Each call counts one transition, there and back in turn."""
    meter.start(pair[0])
    transitions = cycle(((pair[0], pair[1]), (pair[1], pair[0])))
    return lambda: meter.advance(*next(transitions))
