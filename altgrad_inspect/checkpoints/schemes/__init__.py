"""How quantized weights are stored: one file a scheme, and the order in which they are tried."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.schemes.awq import AwqScheme
from altgrad_inspect.checkpoints.schemes.bitnet import BitNetScheme
from altgrad_inspect.checkpoints.schemes.block_fp8 import BlockFp8Scheme
from altgrad_inspect.checkpoints.schemes.bnb_4bit import Bnb4BitScheme
from altgrad_inspect.checkpoints.schemes.bnb_int8 import BnbInt8Scheme
from altgrad_inspect.checkpoints.schemes.compressed_float import COMPRESSED_FLOAT
from altgrad_inspect.checkpoints.schemes.compressed_int import COMPRESSED_INT
from altgrad_inspect.checkpoints.schemes.compressed_mx import COMPRESSED_MX
from altgrad_inspect.checkpoints.schemes.compressed_nvfp4 import COMPRESSED_NVFP4
from altgrad_inspect.checkpoints.schemes.compressed_pack import COMPRESSED_PACK
from altgrad_inspect.checkpoints.schemes.fbgemm_fp8 import FBGEMM_FP8
from altgrad_inspect.checkpoints.schemes.generic import GenericScheme
from altgrad_inspect.checkpoints.schemes.gptq import GptqScheme
from altgrad_inspect.checkpoints.schemes.hqq import HqqScheme
from altgrad_inspect.checkpoints.schemes.lora_update import LoraUpdateScheme
from altgrad_inspect.checkpoints.schemes.modelopt_fp4 import MODELOPT_FP4
from altgrad_inspect.checkpoints.schemes.modelopt_fp8 import MODELOPT_FP8
from altgrad_inspect.checkpoints.schemes.modelopt_int4 import MODELOPT_INT4
from altgrad_inspect.checkpoints.schemes.modelopt_int8 import MODELOPT_INT8
from altgrad_inspect.checkpoints.schemes.mxfp4 import Mxfp4Scheme
from altgrad_inspect.checkpoints.schemes.native_f4 import NATIVE_F4
from altgrad_inspect.checkpoints.schemes.parts import PROBLEM, name_layer
from altgrad_inspect.checkpoints.schemes.quanto import QuantoScheme
from altgrad_inspect.checkpoints.schemes.scheme import LoadedLayer, Scheme
from altgrad_inspect.checkpoints.schemes.torchao import TorchaoScheme
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import LayerRef

SCHEMES: Final[tuple[Scheme, ...]] = (
    BlockFp8Scheme(),
    Bnb4BitScheme(),
    BnbInt8Scheme(),
    AwqScheme(),
    GptqScheme(),
    BitNetScheme(),
    HqqScheme(),
    FBGEMM_FP8,
    MODELOPT_FP8,
    MODELOPT_FP4,
    MODELOPT_INT8,
    MODELOPT_INT4,
    COMPRESSED_PACK,
    COMPRESSED_NVFP4,
    COMPRESSED_MX,
    COMPRESSED_INT,
    COMPRESSED_FLOAT,
    NATIVE_F4,
    Mxfp4Scheme(),
    TorchaoScheme(),
    QuantoScheme(),
    LoraUpdateScheme(),
    GenericScheme(),
)
"""The first scheme that claims a tensor has it; schemes that need less evidence come later, the
generic one last."""

_BY_NAME: Final = {scheme.name: scheme for scheme in SCHEMES}


def decode_layer(layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
    """Turn the stored tensors of a layer into its weights, as its scheme does.

    A layer without weights has no codes to decode, whatever its scales are.

    Raises:
        CheckpointError: They do not fit together, or the layer was found damaged.
    """
    if PROBLEM in layer.facts:
        msg = f"{name_layer(layer)} {layer.facts[PROBLEM]}"
        raise CheckpointError(msg)
    if layer.num_weights == 0:
        device = next(iter(parts.values())).device
        return LoadedLayer(values=torch.empty(layer.shape, device=device))
    return _BY_NAME[layer.scheme].decode(layer, parts)
