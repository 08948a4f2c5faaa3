"""Roles and peer groups of layer names as real models spell them."""

import pytest

from altgrad_inspect.roles import Role, find_block, find_role, peer_group


@pytest.mark.parametrize(
    ("layer", "role"),
    [
        ("model.embed_tokens.weight", Role.EMBEDDING),
        ("transformer.wte.weight", Role.EMBEDDING),
        ("embeddings.word_embeddings.weight", Role.EMBEDDING),
        ("embeddings.position_embeddings.weight", Role.POSITION),
        ("transformer.wpe.weight", Role.POSITION),
        ("embeddings.LayerNorm.weight", Role.NORM),
        ("model.layers.0.input_layernorm.weight", Role.NORM),
        ("model.layers.1.self_attn.q_norm.weight", Role.NORM),
        ("transformer.ln_f.weight", Role.NORM),
        ("transformer.h.0.ln_1.weight", Role.NORM),
        ("lm_head.weight", Role.HEAD),
        ("embed_out.weight", Role.HEAD),
        ("model.layers.0.self_attn.q_proj.weight", Role.ATTENTION_Q),
        ("model.layers.0.self_attn.q_proj.bias", Role.ATTENTION_Q),
        ("encoder.layer.0.attention.self.key.weight", Role.ATTENTION_K),
        ("model.layers.0.self_attn.v_proj.weight", Role.ATTENTION_V),
        ("transformer.h.1.attn.c_attn.weight", Role.ATTENTION_QKV),
        ("gpt_neox.layers.0.attention.query_key_value.weight", Role.ATTENTION_QKV),
        ("model.layers.0.self_attn.o_proj.weight", Role.ATTENTION_OUT),
        ("transformer.h.1.attn.c_proj.weight", Role.ATTENTION_OUT),
        ("encoder.layer.0.attention.output.dense.weight", Role.ATTENTION_OUT),
        ("gpt_neox.layers.0.attention.dense.weight", Role.ATTENTION_OUT),
        ("model.layers.3.mlp.gate_proj.weight", Role.MLP_GATE),
        ("model.layers.3.mlp.up_proj.weight", Role.MLP_UP),
        ("encoder.layer.0.intermediate.dense.weight", Role.MLP_UP),
        ("transformer.h.1.mlp.c_fc.weight", Role.MLP_UP),
        ("model.layers.3.mlp.down_proj.weight", Role.MLP_DOWN),
        ("transformer.h.1.mlp.c_proj.weight", Role.MLP_DOWN),
        ("encoder.layer.0.output.dense.weight", Role.MLP_DOWN),
        ("model.layers.1.mlp.gate.weight", Role.ROUTER),
        ("model.layers.1.block_sparse_moe.gate.weight", Role.ROUTER),
        ("model.layers.1.mlp.router.weight", Role.ROUTER),
        ("model.layers.1.mlp.experts.4.down_proj.weight", Role.EXPERT_DOWN),
        ("model.layers.1.mlp.experts.gate_up_proj", Role.EXPERT_UP),
        ("model.layers.1.block_sparse_moe.experts.0.w1.weight", Role.EXPERT_GATE),
        ("features.conv1.weight", Role.CONVOLUTION),
        ("pooler.dense.weight", Role.OTHER),
        ("x", Role.OTHER),
    ],
)
def test_a_name_tells_its_role(layer: str, role: Role) -> None:
    assert find_role(layer) is role


def test_peers_differ_in_their_numbers_only() -> None:
    assert peer_group("model.layers.3.mlp.up_proj.weight") == "model.layers.*.mlp.up_proj.weight"
    assert peer_group("h.1.experts.12.w2") == "h.*.experts.*.w2"
    assert peer_group("conv1.weight") == "conv1.weight"
    assert find_block("model.layers.3.mlp.experts.7.up_proj") == 3
    assert find_block("lm_head.weight") is None
