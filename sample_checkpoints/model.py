"""A small GPT in Qwen2 layout, whose linear layers compute with fake-quantized weights.

The names and the arithmetic are those of Hugging Face's ``Qwen2ForCausalLM``: RMS norms,
rotary positions, biases on query, key and value, a gated MLP, an untied head.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

E4M3_MAX: Final = 448.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large the model is."""

    vocabulary: int
    width: int = 40
    hidden: int = 112
    blocks: int = 4
    heads: int = 4
    context: int = 64

    def as_config(self) -> dict[str, Any]:
        """Return the ``config.json`` of Hugging Face for this model."""
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            "hidden_size": self.width,
            "initializer_range": INITIAL_STD,
            "intermediate_size": self.hidden,
            "max_position_embeddings": self.context,
            "model_type": "qwen2",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.blocks,
            "num_key_value_heads": self.heads,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vocab_size": self.vocabulary,
        }


INITIAL_STD: Final = 0.08


def round_to_e4m3(weight: Tensor) -> Tensor:
    """Return the nearest E4M3 values at one scale, amax / 448, for the whole tensor."""
    scale = weight.abs().amax() / E4M3_MAX
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (weight / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
    return codes.float() * scale


def fake_quantize(weight: Tensor) -> Tensor:
    """Return the E4M3 values of ``weight``; the gradient passes straight through."""
    return round_to_e4m3(weight.detach()) + (weight - weight.detach())


class QuantizedLinear(nn.Linear):
    """A linear layer: a float32 master weight, E4M3 values in the product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gives it
        """Multiply with the quantized weight."""
        return F.linear(input, fake_quantize(self.weight), self.bias)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj = QuantizedLinear(shape.width, shape.width)
        self.k_proj = QuantizedLinear(shape.width, shape.width)
        self.v_proj = QuantizedLinear(shape.width, shape.width)
        self.o_proj = QuantizedLinear(shape.width, shape.width, bias=False)
        head = shape.width // shape.heads
        frequency = 10000.0 ** (-torch.arange(0, head, 2) / head)
        angle = torch.outer(torch.arange(shape.context), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix each position with those before it."""
        batch, length, width = x.shape
        q, k, v = (
            proj(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (_rotate(part, self.cos[:length], self.sin[:length]) for part in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        output: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return output


class Mlp(nn.Module):
    """The gated feed-forward half of a block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = QuantizedLinear(shape.width, shape.hidden, bias=False)
        self.up_proj = QuantizedLinear(shape.width, shape.hidden, bias=False)
        self.down_proj = QuantizedLinear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it at every position."""
        output: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return output


class Block(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = nn.RMSNorm(shape.width, eps=1e-6)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Add what attention and the MLP find."""
        x = x + self.self_attn(self.input_layernorm(x))
        output: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return output


class Trunk(nn.Module):
    """Everything below the head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the state of every position."""
        x = self.embed_tokens(tokens)
        for block in self.layers:
            x = block(x)
        output: Tensor = self.norm(x)
        return output


class Gpt(nn.Module):
    """The whole model, with the parameter names of Hugging Face."""

    def __init__(self, shape: Shape, *, generator: torch.Generator) -> None:
        super().__init__()
        self.model = Trunk(shape)
        self.lm_head = QuantizedLinear(shape.width, shape.vocabulary, bias=False)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=INITIAL_STD, generator=generator)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of the next characters."""
        logits = self.lm_head(self.model(tokens))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
