"""Values to text for people: three significant digits, thousands separators, no NaN.

The one place where a value becomes text, so the one place where text is sanitised.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final, cast

from altgrad_inspect.display import display_name
from altgrad_inspect.reports.model import Kind, Number, Series, Value

UNDEFINED: Final = "-"
"""What stands where a value is undefined."""

BARS: Final = "▁▂▃▄▅▆▇█"
GAP: Final = "·"
"""What stands in a series where a value is undefined."""

FULL_HEIGHT: Final = 0.2
"""A series that spans this share of its median fills the height of its bars."""

_TOP: Final = len(BARS) - 1
_MIDDLE: Final = len(BARS) // 2

TIMES: Final = "\N{MULTIPLICATION SIGN}"

_BYTE_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")


def render_real(value: Number) -> str:
    """Write a real to three significant digits: ``0.0123``, ``12.3``, ``12,300``, ``1.23e+07``."""
    if not math.isfinite(value):
        return UNDEFINED
    rounded = float(f"{value:.3g}")
    magnitude = abs(rounded)
    if magnitude == 0:
        return "0"
    if magnitude >= 1e6 or magnitude < 1e-4:
        return f"{value:.2e}"
    if magnitude >= 100:
        return f"{rounded:,.0f}"
    return f"{rounded:.{2 - math.floor(math.log10(magnitude))}f}"


def render_percent(fraction: Number) -> str:
    """Write a fraction as a percentage: ``1.23%``; 0 and 1 only where they are exact."""
    if fraction in {0.0, 1.0}:
        return f"{fraction * 100:.0f}%"
    text = render_real(fraction * 100)
    if text == "100":
        return ">99.9%" if fraction < 1 else "100%"
    return text if text == UNDEFINED else f"{text}%"


def render_change(fraction: Number) -> str:
    """Write a relative change as a signed percentage: ``-12.3%``, ``+0.68%``."""
    percent = abs(fraction) * 100
    if percent == 0:
        return "0%"
    sign = "-" if fraction < 0 else "+"
    if percent < 1:
        return f"{sign}{percent:.2f}%" if percent >= 0.005 else f"{sign}<0.01%"
    return f"{sign}{render_real(percent)}%"


def render_bytes(size_bytes: Number) -> str:
    """Write a size in decimal units: ``12 B``, ``1.23 MB``."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    exponent = min(int(math.log10(float(f"{size_bytes:.3g}")) / 3), len(_BYTE_UNITS))
    return f"{render_real(size_bytes / 1000**exponent)} {_BYTE_UNITS[exponent - 1]}"


def render_seconds(seconds: Number) -> str:
    """Write a duration: ``0.12 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if not math.isfinite(seconds):
        return UNDEFINED
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def render_series(series: Series, *, max_width: int = 16) -> str:
    """Draw a series as bars, `GAP` where it is undefined: the shape of a change, not its size.

    The bars reach from the smallest to the largest value if these differ by at least
    `FULL_HEIGHT` of the median magnitude. A series that moves less is drawn around the middle
    at that scale, so that a wiggle of one percent stays flat. A series longer than
    ``max_width`` is averaged into that many buckets.
    """
    values = [_bucket_mean(bucket) for bucket in _split(series, max_width)]
    largest = max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    scaled = [None if value is None else value / largest for value in values]
    defined = [value for value in scaled if value is not None]
    if not defined:
        return GAP * len(scaled)
    least, most = min(defined), max(defined)
    room = FULL_HEIGHT * median(abs(value) for value in defined)
    if most - least < room:
        middle = (least + most) / 2
        levels = [None if v is None else _MIDDLE + _TOP * (v - middle) / room for v in scaled]
    else:
        height = (most - least) or 1.0
        levels = [None if v is None else _TOP * (v - least) / height for v in scaled]
    return "".join(
        GAP if level is None else BARS[min(_TOP, max(0, round(level)))] for level in levels
    )


def _split(series: Series, num_buckets: int) -> list[Series]:
    if len(series) <= num_buckets:
        return [(value,) for value in series]
    edges = [index * len(series) // num_buckets for index in range(num_buckets + 1)]
    return [series[start:stop] for start, stop in pairwise(edges)]


def _bucket_mean(values: Series) -> float | None:
    defined = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(defined) / len(defined) if defined else None


def render_ends(series: Series, kind: Kind) -> str:
    """Write the first and the last value, ``43.9 → 1.21``; one value alone stays alone."""
    ends = series if len(series) < 2 else (series[0], series[-1])
    texts = [render_cell(value, kind) for value in ends]
    return texts[0] if set(texts) == {UNDEFINED} else " → ".join(texts)


_NUMBERS: Final[Mapping[Kind, Callable[[Number], str]]] = {
    Kind.COUNT: lambda value: f"{value:,}",
    Kind.STEP: lambda value: f"{value}",
    Kind.REAL: render_real,
    Kind.EXACT: lambda value: f"{value:.6g}",
    Kind.PERCENT: render_percent,
    Kind.CHANGE: render_change,
    Kind.BYTES: render_bytes,
    Kind.SECONDS: render_seconds,
}


def render_cell(value: Value, kind: Kind, *, series_width: int = 16) -> str:
    """Write one value as printable one-line text; undefined is ``-``."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNDEFINED
    match kind:
        case Kind.TEXT | Kind.WORD | Kind.LOOK:
            return display_name(str(value)) or UNDEFINED
        case Kind.SERIES:
            return render_series(cast("Series", value), max_width=series_width) or UNDEFINED
        case Kind.PAIR:
            return render_ends(cast("Series", value), Kind.REAL)
        case Kind.SHAPE:
            return TIMES.join(str(size) for size in cast("Sequence[int]", value)) or "scalar"
        case _:
            return _NUMBERS[kind](cast("Number", value))
