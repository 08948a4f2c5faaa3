"""What a ModelOpt configuration says about a layer."""

from typing import Final

from altgrad_inspect.checkpoints.schemes.beside_scale import Found
from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext

_METHOD: Final = "modelopt"


def is_modelopt(context: SchemeContext) -> bool:
    """Whether the configuration names ModelOpt: ``modelopt``, ``modelopt_fp4``, ..."""
    return (context.method or "").startswith(_METHOD)


def algorithm_of(context: SchemeContext, path: str) -> str:
    """Say what gave the layer ``path`` away, with the algorithm that it was quantized by."""
    if not is_modelopt(context):
        return "names, dtypes and shapes"
    layers = context.settings.get("quantized_layers")
    own = layers.get(path) if isinstance(layers, dict) else None
    settings = own if isinstance(own, dict) else context.settings
    algorithm = settings.get("quant_algo")
    said = f" {algorithm}" if isinstance(algorithm, str) and algorithm.isidentifier() else ""
    return f"{context.source}: modelopt{said}"


def has_rows_in_one_dimension(found: Found) -> bool:
    """Whether there is one scale a row, in one dimension, as only ModelOpt stores them."""
    return len(found.codes.shape) == 2 and found.scale.shape == found.codes.shape[:1] != (1,)
