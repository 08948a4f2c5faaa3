"""The update that a LoRA adapter makes to its base model: scaling * B @ A.

P.lora_A.weight      [r, in], or [r, in, *kernel] of a convolution
P.lora_B.weight      [out, r], or [out, r, 1, ...]
P.lora_embedding_A   [r, tokens]
P.lora_embedding_B   [out, r]

Found only when it is asked for. The layer is called ``P.lora_update``, because it is no
weight: the weight itself needs the base model.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor

from altgrad_inspect.checkpoints.names import normalise_name
from altgrad_inspect.checkpoints.schemes.adapter_configuration import (
    AdapterConfig,
    name_module,
    read_adapter_config,
)
from altgrad_inspect.checkpoints.schemes.parts import FLOATS, build_layer, name_layer
from altgrad_inspect.checkpoints.schemes.scheme import Claim, LeftOut, LoadedLayer, SchemeContext
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.refs import LORA_UPDATE, LayerRef

_A: Final = re.compile(
    r"(?P<module>.+)\.lora_(?:(?P<table>embedding_A)|A)(?P<adapter>\.[^.]+)??(?(table)|\.weight)"
)
_NOTE: Final = (
    "layers called lora_update are updates that an adapter makes, not weights: flips of the "
    "merged weights would need the base model, and are not computed"
)


_CONVOLUTIONS: Final = (torch.conv1d, torch.conv2d, torch.conv3d)


class LoraUpdateScheme:
    """Pairs of LoRA matrices, as one update each."""

    name = LORA_UPDATE

    def find(
        self, tensors: Mapping[str, LayerRef], context: SchemeContext
    ) -> Iterable[Claim | LeftOut]:
        """Find pairs if updates are asked for.

        Raises:
            CheckpointError: There are pairs and no configuration that says how to scale them.
        """
        if not context.merges_adapters:
            return
        configs: dict[tuple[object, str], AdapterConfig] = {}
        for name, first in tensors.items():
            match = _A.fullmatch(name)
            second = tensors.get(_name_of_b(match)) if match else None
            if match is None or second is None:
                continue
            stored = normalise_name(first.stored_name)
            component = stored.partition(".")[0]
            key = (first.file.path.parent, component)
            if key not in configs:
                configs[key] = read_adapter_config(key[0], context.metadata, component)
            module = name_module(stored[: len(stored) - len(name) + match.end("module")], component)
            yield from _claim(match, (first, second), configs[key], module)

    def decode(self, layer: LayerRef, parts: Mapping[str, Tensor]) -> LoadedLayer:
        """Return scaling * B @ A in float32, in the order in which PEFT computes it.

        On the CPU whatever the device, so that no device changes a bit.
        """
        device = parts["A"].device
        a, b = (_as_computed(parts[role].cpu()) for role in ("A", "B"))
        update = _multiply(a, b)
        if layer.facts["is_transposed"]:
            update = update.T
        scaling = layer.facts["scaling"]
        if not isinstance(scaling, float):
            msg = f"{name_layer(layer)} has no scaling, expected a number (save the adapter again)"
            raise CheckpointError(msg)
        return LoadedLayer(values=update.mul_(scaling).float().contiguous().to(device))


def _name_of_b(match: re.Match[str]) -> str:
    start, end = match.end("module"), len(match.string)
    return match["module"] + match.string[start:end].replace("_A", "_B", 1)


def _claim(
    match: re.Match[str], pair: tuple[LayerRef, LayerRef], config: AdapterConfig, module: str
) -> Iterable[Claim | LeftOut]:
    first, second = pair
    is_table = match["table"] is not None
    obstacle = config.obstacle or _find_misfit(pair, config.find_rank(module), is_table=is_table)
    if obstacle:
        for part in pair:
            yield LeftOut(tensor=part, reason=f"its LoRA update is not computed: {obstacle}")
        return
    shape = (second.shape[0], first.shape[1], *first.shape[2:])
    is_transposed = is_table or (config.is_transposed and len(shape) == 2)
    yield Claim(
        layer=build_layer(
            f"{match['module']}.lora_update{match['adapter'] or ''}",
            {"A": first, "B": second},
            scheme=LORA_UPDATE,
            fmt="F32",
            shape=shape[::-1] if is_transposed else shape,
            recognised_by=f"names; scaling from {config.source}",
            facts={"scaling": config.find_scaling(module), "is_transposed": is_transposed},
        ),
        notes=(_NOTE, config.note) if config.note else (_NOTE,),
    )


def _find_misfit(pair: tuple[LayerRef, LayerRef], rank: int, *, is_table: bool) -> str | None:
    """Why two matrices make no update; None if they do."""
    first, second = pair
    if not {first.dtype, second.dtype} <= FLOATS:
        return f"its matrices are {first.dtype} and {second.dtype}, expected floats"
    dims = len(first.shape)
    has_dims = 2 <= dims <= (2 if is_table else 2 + len(_CONVOLUTIONS))
    fits = has_dims and dims == len(second.shape) and first.shape[0] == second.shape[1]
    if not fits or any(size != 1 for size in second.shape[2:]):
        shapes = f"{list(first.shape)} and {list(second.shape)}"
        return f"A and B of shapes {shapes} do not fit, expected [r, in] and [out, r]"
    if first.shape[0] != rank:
        return f"its matrices have rank {first.shape[0]}, and its configuration says {rank}"
    return None


def _as_computed(matrix: Tensor) -> Tensor:
    return matrix if matrix.dtype == torch.float64 else matrix.float()


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """B @ A, also of convolutions: (out, r, 1...) and (r, in, *kernel) to (out, in, *kernel)."""
    a, b = (one.double() if torch.float64 in {a.dtype, b.dtype} else one for one in (a, b))
    if a.dim() == 2 or a.shape[2:] == (1, 1):
        return (b.flatten(1) @ a.flatten(1)).reshape(b.shape[0], *a.shape[1:])
    convolve = _CONVOLUTIONS[a.dim() - 3]
    return convolve(a.transpose(0, 1), b).transpose(0, 1)
