"""What part of a model a layer is, read from its name: its role, and its peers.

Peers are layers of one role in different blocks: what a learning-rate schedule does to one
of them it does to all, so a layer is judged against its peers at the same step.
"""

import re
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """The part of a transformer (or of anything like it) that a layer plays."""

    EMBEDDING = "embedding"
    POSITION = "position"
    ATTENTION_Q = "attention-q"
    ATTENTION_K = "attention-k"
    ATTENTION_V = "attention-v"
    ATTENTION_QKV = "attention-qkv"
    ATTENTION_OUT = "attention-out"
    MLP_UP = "mlp-up"
    MLP_GATE = "mlp-gate"
    MLP_DOWN = "mlp-down"
    EXPERT_UP = "expert-up"
    EXPERT_GATE = "expert-gate"
    EXPERT_DOWN = "expert-down"
    ROUTER = "router"
    HEAD = "head"
    NORM = "norm"
    CONVOLUTION = "convolution"
    OTHER = "other"


_EXPERT: Final = re.compile(r"(^|\.)(experts?|moe)(\.|_|$)")
_AS_EXPERT: Final = {
    Role.MLP_UP: Role.EXPERT_UP,
    Role.MLP_GATE: Role.EXPERT_GATE,
    Role.MLP_DOWN: Role.EXPERT_DOWN,
}

_PATTERNS: Final = tuple(
    (role, re.compile(rf"(^|[._])({pattern})([._]|$)"))
    for role, pattern in (
        (Role.NORM, r"\w*norm\w*|ln_?\w*|layernorm\w*"),
        (Role.POSITION, r"position_embeddings?|wpe|embed_positions|pos_emb\w*|rotary_emb"),
        (Role.ROUTER, r"router|wg|(mlp|moe|block_sparse_moe)\.gate(?!_)"),
        (Role.HEAD, r"lm_head|output_layer|embed_out|classifier|score|head"),
        (
            Role.EMBEDDING,
            r"embed_tokens|wte|(word|tok|token_type)_embeddings|embeddings?|embed",
        ),
        (Role.ATTENTION_QKV, r"qkv\w*|c_attn|query_key_value|in_proj\w*|wqkv"),
        (Role.ATTENTION_Q, r"q_proj|q_lin|query|wq|to_q|q"),
        (Role.ATTENTION_K, r"k_proj|k_lin|key|wk|to_k|k"),
        (Role.ATTENTION_V, r"v_proj|v_lin|value|wv|to_v|v"),
        (
            Role.ATTENTION_OUT,
            r"o_proj|out_proj|out_lin|wo|to_out|attn\.c_proj|attention\.(output\.)?dense",
        ),
        (Role.MLP_UP, r"up_proj|gate_up_proj|w3|c_fc|fc1|lin1|intermediate\.dense|dense_h_to_4h"),
        (Role.MLP_GATE, r"gate_proj|w1|gate"),
        (
            Role.MLP_DOWN,
            r"down_proj|w2|mlp\.c_proj|fc2|lin2|output\.dense|dense_4h_to_h",
        ),
        (Role.CONVOLUTION, r"conv\w*"),
    )
)

_BLOCK: Final = re.compile(r"(?<![^.])\d+(?![^.])")


def find_role(layer: str) -> Role:
    """Return the role that the name of ``layer`` tells; ``other`` if it tells none."""
    name = layer.lower()
    module = re.sub(r"\.(weight|bias)$", "", name)
    for role, pattern in _PATTERNS:
        if pattern.search(module):
            expert = _AS_EXPERT.get(role, role) if _EXPERT.search(module) else role
            return Role(expert)
    return Role.OTHER


def find_block(layer: str) -> int | None:
    """Return the number of the block that ``layer`` is in, e.g. 3 for ``model.layers.3.…``."""
    match = _BLOCK.search(layer)
    return int(match[0]) if match else None


def peer_group(layer: str) -> str:
    """Return the name that ``layer`` shares with its peers: block and expert numbers as ``*``.

    ``model.layers.3.mlp.up_proj.weight`` and its like in the other blocks share
    ``model.layers.*.mlp.up_proj.weight``.
    """
    return _BLOCK.sub("*", layer)
