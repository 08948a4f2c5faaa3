"""Write adapters with PEFT, and the updates that PEFT computes of them.

    pip install peft==0.21.2 && python tests/data/lora_update/generate.py

Development only: the tests read what is committed beside this file.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found]
from peft.tuners.lora import LoraLayer  # type: ignore[import-not-found]
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D  # type: ignore[import-not-found]

HERE = Path(__file__).parent


class Model(nn.Module):
    """One module of every kind that LoRA knows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(13, 6)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"q_proj": nn.Linear(10, 7), "o_proj": nn.Linear(7, 10, bias=False)})
            for _ in range(2)
        )
        self.line = nn.Conv1d(4, 6, 3)
        self.image = nn.Conv2d(4, 6, 3, padding=1)
        self.point = nn.Conv2d(4, 6, 1)
        self.volume = nn.Conv3d(2, 3, (1, 2, 2))
        self.score = nn.Linear(6, 2)


class Transposed(nn.Module):
    """A module whose weight is (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn = Conv1D(9, 5)


EVERYTHING = ["embed", "q_proj", "o_proj", "line", "image", "point", "volume"]
ADAPTERS: dict[str, tuple[type[nn.Module], torch.dtype, dict[str, object]]] = {
    "plain": (Model, torch.float32, {"r": 2, "lora_alpha": 5, "modules_to_save": ["score"]}),
    "rslora": (Model, torch.float32, {"r": 3, "lora_alpha": 7, "use_rslora": True}),
    "patterns": (
        Model,
        torch.float32,
        {
            "r": 2,
            "lora_alpha": 3,
            "rank_pattern": {"blocks.1.q_proj": 4, "^point": 1, "q_proj": 3},
            "alpha_pattern": {r"blocks\.\d+\.o_proj": 11, "proj": 1, "image": 13},
        },
    ),
    "bfloat16": (Model, torch.bfloat16, {"r": 2, "lora_alpha": 3}),
    "float16": (Model, torch.float16, {"r": 2, "lora_alpha": 3, "use_rslora": True}),
    "float64": (Model, torch.float64, {"r": 2, "lora_alpha": 3}),
    "transposed": (
        Transposed,
        torch.float32,
        {"r": 2, "lora_alpha": 3, "target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    "dora": (Model, torch.float32, {"r": 2, "use_dora": True, "target_modules": ["q_proj"]}),
}


def write(name: str, model: nn.Module, dtype: torch.dtype, settings: dict[str, object]) -> None:
    """Write ``name/`` as PEFT saves it, and beside the adapter its updates by module."""
    config = LoraConfig(**{"target_modules": EVERYTHING, **settings})
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_()
                parameter.data = parameter.data.to(dtype)
    adapted.save_pretrained(str(HERE / name))
    (HERE / name / "README.md").unlink()
    updates = {
        module: layer.get_delta_weight("default").detach().clone().contiguous()
        for module, layer in adapted.base_model.model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    save_file(updates, HERE / name / "updates.safetensors")


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, (kind, dtype, settings) in ADAPTERS.items():
        write(name, kind(), dtype, settings)
