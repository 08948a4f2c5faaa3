"""How quantized weights are stored: one file a scheme, and the order in which they are tried."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from altgrad_inspect.checkpoints.schemes.block_fp8 import BlockFp8Scheme
from altgrad_inspect.checkpoints.schemes.lora_update import LoraUpdateScheme
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer, Scheme
from altgrad_inspect.refs import LayerRef

SCHEMES: Final[tuple[Scheme, ...]] = (BlockFp8Scheme(), LoraUpdateScheme())
"""The first scheme that claims a tensor has it; schemes that need less evidence come later."""

_BY_NAME: Final = {scheme.name: scheme for scheme in SCHEMES}


def decode_layer(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Turn the stored tensors of a layer into its weights, as its scheme does.

    Raises:
        CheckpointError: They do not fit together.
    """
    return _BY_NAME[layer.scheme].decode(layer, parts)
