"""The ranges of the settings of ranks."""

from typing import Any

import pytest

from altgrad_inspect.api.options import read_rank_settings
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.settings import RankSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tolerance": -0.1}, r"tolerance: -0.1 is out of range, expected in \[0, 1\)"),
        ({"tolerance": 1.0}, "tolerance: 1.0 is out of range"),
        ({"tolerance": float("nan")}, "tolerance: nan is out of range"),
        (
            {"spectra": True, "metrics": "stable"},
            "spectra: need all singular values, which metrics stable does not find",
        ),
        (
            {"spectra": True, "method": "auto"},
            r"spectra: .* which method auto does not find \(leave one of the two out\)",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RankSettings(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "fast"}, "method: fast is not known, expected exact, estimate or auto"),
        ({"method": ""}, "method: .* is not known"),
        ({"metrics": "effective"}, "metrics: effective is not known, expected both or stable"),
    ],
)
def test_a_word_that_is_not_known_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_rank_settings(given)


def test_exact_ranks_of_everything_are_the_default() -> None:
    settings = RankSettings()
    assert (settings.method, settings.metrics, settings.tolerance) == ("exact", "both", 0.0)
    assert read_rank_settings({}) == settings
