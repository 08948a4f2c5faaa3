"""From the files of a checkpoint to its stored tensors: one file a way of cutting them up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from altgrad_inspect.checkpoints.assemblies.components import assemble_components
from altgrad_inspect.checkpoints.assemblies.dcp_shards import assemble_dcp_shards
from altgrad_inspect.checkpoints.assemblies.models import assemble_models
from altgrad_inspect.checkpoints.assemblies.nanotron import assemble_nanotron
from altgrad_inspect.checkpoints.assemblies.olmo import assemble_olmo
from altgrad_inspect.checkpoints.assemblies.plain import assemble_plain
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.refs import PLAIN, CheckpointRef, FileRef, LayerRef

Headers = Mapping[Path, tuple[FileRef, Header]]
Assembly = Callable[[CheckpointRef, Headers], tuple[dict[str, LayerRef], tuple[str, ...]]]

COMPONENTS: Final = "components"
DCP_SHARDS: Final = "dcp-shards"
MODELS: Final = "models"
NANOTRON: Final = "nanotron"
OLMO: Final = "olmo"

ASSEMBLIES: Final[Mapping[str, Assembly]] = MappingProxyType(
    {
        PLAIN: assemble_plain,
        COMPONENTS: assemble_components,
        DCP_SHARDS: assemble_dcp_shards,
        MODELS: assemble_models,
        NANOTRON: assemble_nanotron,
        OLMO: assemble_olmo,
    }
)
"""By what `CheckpointRef.assembly` says."""


def assemble_layers(
    ref: CheckpointRef, headers: Headers
) -> tuple[dict[str, LayerRef], tuple[str, ...]]:
    """Return the stored tensors of a checkpoint by name, and notes.

    Raises:
        CheckpointError: They cannot be put together.
    """
    return ASSEMBLIES[ref.assembly](ref, headers)
