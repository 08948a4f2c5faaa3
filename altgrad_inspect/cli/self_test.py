"""A self test of about a second: known numbers in, known numbers out, on one device."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_FORMATS: Final = ("e4m3", "e5m2", "e2m1", "int8", "bf16")

_SINGULAR_VALUES: Final = (8.0, 4.0, 4.0, 2.0, 1.0, 1.0, 0.5, 0.25)

_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRow:
    """One test: what was tested, on which device, and what was wrong, if anything."""

    test: str
    device: str
    status: str
    detail: str


def run_self_tests(device: str) -> Iterator[TestRow]:
    """Run every test on ``device``; what goes wrong is a failed row, whatever it is."""
    for name, test in _TESTS.items():
        try:
            detail = test(device)
        except Exception as error:  # noqa: BLE001  # this is where anything wrong is to be seen
            yield TestRow(test=name, device=device, status="failed", detail=_describe(error))
        else:
            yield TestRow(test=name, device=device, status="ok", detail=detail)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _test_encoding(device: str) -> str:
    """Encode values, midpoints and extremes against the scalar definition."""
    import torch

    from altgrad_inspect.formats import element_format
    from altgrad_inspect.quantize.grids import encode_ordinals

    count = 0
    for name in _FORMATS:
        fmt = element_format(name)
        grid = [fmt.value_of(ordinal) for ordinal in range(min(fmt.code_of_max, 2000) + 1)]
        middles = [(low + high) / 2 for low, high in pairwise(grid)]
        values = [*grid, *middles, math.inf, 3 * grid[1], grid[1] / 3]
        tensor = torch.tensor([*values, *(-value for value in values)], dtype=torch.float32)
        found = encode_ordinals(tensor.to(device), fmt).cpu().tolist()
        for value, ordinal in zip(tensor.tolist(), found, strict=True):
            expected = fmt.ordinal(value)
            if ordinal != expected:
                msg = f"{fmt.name}: {value!r} became ordinal {ordinal}, expected {expected}"
                raise ArithmeticError(msg)
        count += len(found)
    return f"{count:,} values of {len(_FORMATS)} formats"


def _test_spectrum(device: str) -> str:
    """Measure a matrix of known singular values: Hadamard matrices around a diagonal."""
    import torch

    from altgrad_inspect.metrics.spectrum import measure_spectrum
    from altgrad_inspect.records import Undefined

    values = torch.tensor(_SINGULAR_VALUES, dtype=torch.float64)
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < len(values):
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double(), hadamard)
    matrix = hadamard @ torch.diag(values / len(values)) @ hadamard.roll(1, dims=0)
    spectrum = measure_spectrum(matrix.to(device))
    if isinstance(spectrum, Undefined):
        raise ArithmeticError(spectrum.reason)  # noqa: TRY004  # the number is wrong, no type
    total = sum(_SINGULAR_VALUES)
    entropy = -sum(s / total * math.log(s / total) for s in _SINGULAR_VALUES)
    expected = {
        "stable_rank": sum(s * s for s in _SINGULAR_VALUES) / max(_SINGULAR_VALUES) ** 2,
        "effective_rank": math.exp(entropy),
        "spectral_norm": max(_SINGULAR_VALUES),
        "nuclear_norm": total,
    }
    for name, value in expected.items():
        found = getattr(spectrum, name)
        if not math.isclose(found, value, rel_tol=_TOLERANCE):
            msg = f"{name}: {found!r}, expected {value!r}"
            raise ArithmeticError(msg)
    return ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in expected.items())


_TESTS: Final[dict[str, Callable[[str], str]]] = {
    "encoding": _test_encoding,
    "spectrum": _test_spectrum,
}
