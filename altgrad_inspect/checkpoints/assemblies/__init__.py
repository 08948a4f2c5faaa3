"""From the files of a checkpoint to its stored tensors: one file a way of cutting them up."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from altgrad_inspect.checkpoints.assemblies.components import assemble_components
from altgrad_inspect.checkpoints.assemblies.plain import assemble_plain
from altgrad_inspect.checkpoints.header import Header
from altgrad_inspect.checkpoints.layouts import components
from altgrad_inspect.refs import PLAIN, CheckpointRef, FileRef, LayerRef

Headers = Mapping[Path, tuple[FileRef, Header]]
Assembly = Callable[[CheckpointRef, Headers], tuple[dict[str, LayerRef], tuple[str, ...]]]

ASSEMBLIES: Final[Mapping[str, Assembly]] = MappingProxyType(
    {PLAIN: assemble_plain, components.ASSEMBLY: assemble_components}
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
