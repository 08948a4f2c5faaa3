"""The updates of random LoRA adapters, against PEFT itself, bit for bit."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from altgrad_inspect.checkpoints.checkpoint import open_checkpoint
from altgrad_inspect.checkpoints.discover import discover_run
from altgrad_inspect.checkpoints.layer_reader import LayerReader

peft: Any = pytest.importorskip("peft")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("seed", range(12))
def test_updates_of_random_adapters(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)  # noqa: S311  # sizes of a test
    torch.manual_seed(seed)
    dtype = (torch.float32, torch.bfloat16, torch.float16, torch.float64)[seed % 4]
    sizes = [draw.randint(1, 200) for _ in range(4)]
    kernel = draw.randint(1, 4)
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(sizes[0], sizes[1]),
            "line": nn.Conv1d(sizes[0] % 30 + 1, sizes[2], kernel),
            "image": nn.Conv2d(sizes[1] % 30 + 1, sizes[2], (kernel, draw.randint(1, 4))),
            "volume": nn.Conv3d(3, sizes[3] % 20 + 1, kernel + 1),
            "table": nn.Embedding(sizes[0], sizes[3]),
        }
    )
    config = peft.LoraConfig(
        r=draw.randint(1, 64),
        lora_alpha=draw.choice([1, 7, 16, 3.5]),
        use_rslora=draw.random() < 0.5,
        target_modules=list(model.keys()),
    )
    adapted: Any = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_()
                parameter.data = parameter.data.to(dtype)
    adapted.save_pretrained(str(tmp_path))
    checkpoint = open_checkpoint(discover_run([tmp_path]).checkpoints[0], merges_adapters=True)
    assert len(checkpoint.layers) == len(model)
    with LayerReader(torch.device("cpu")) as reader:
        for name in model:
            layer: Any = model[name]
            update = layer.get_delta_weight("default").detach()
            mine = reader.load(checkpoint.layers[f"base_model.model.{name}.lora_update"]).values
            as_stored = mine.to(dtype) if dtype != torch.float64 else mine
            assert torch.equal(as_stored, update.float() if dtype == torch.float64 else update)
