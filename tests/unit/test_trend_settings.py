"""The ranges of the settings of the flip rules."""

from typing import Any

import pytest

from altgrad_inspect.errors import ConfigError
from altgrad_inspect.settings import TrendSettings

SHARES = (
    "flips_fading_level",
    "loss_flat_fraction",
    "stall_flip_fraction",
    "stall_peer_share",
    "stall_update_fraction",
    "oscillation_reverted",
    "saturation_fraction",
)


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_shares_lie_between_0_and_1(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"^{name}: \S+ is out of range, expected between 0"):
        TrendSettings(**settings)
    assert getattr(TrendSettings(**{name: 0.5}), name) == 0.5  # type: ignore[arg-type]


def test_an_excess_below_1_and_a_ratio_of_1_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^oscillation_excess: 0.9 .*, expected at least 1$"):
        TrendSettings(oscillation_excess=0.9)
    with pytest.raises(ConfigError, match=r"^scale_jump_ratio: 1.0 .*, expected above 1$"):
        TrendSettings(scale_jump_ratio=1.0)
    assert TrendSettings(oscillation_excess=1.0, scale_jump_ratio=1.01).oscillation_excess == 1
