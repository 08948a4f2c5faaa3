"""How runs lie on disk: one file a layout, and the order in which they are tried."""

from typing import Final

from altgrad_inspect.checkpoints.layouts.components import DiffusersLayout
from altgrad_inspect.checkpoints.layouts.flat import FlatLayout
from altgrad_inspect.checkpoints.layouts.hub_cache import HubCacheLayout
from altgrad_inspect.checkpoints.layouts.listing import Layout
from altgrad_inspect.checkpoints.layouts.single import SingleLayout
from altgrad_inspect.checkpoints.layouts.step_directories import StepDirectoriesLayout
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout

LAYOUTS: Final[tuple[Layout, ...]] = (
    HubCacheLayout(),
    TrainerLayout(),
    StepDirectoriesLayout(),
    FlatLayout(),
    DiffusersLayout(),
    SingleLayout(),
)
"""The first layout that finds a checkpoint decides; what a later one finds is noted."""
