"""What to know before a simulated code is taken for the one that a run has seen."""

from typing import Final

CAVEATS: Final = (
    (
        "Ties go to the even code, but towards zero in mxfp4-modelopt and deepgemm-fp4, away from "
        "zero in the recipes of microxcaling, and to the lower value in nf4. bfloat16 weights lie "
        "on ties: 6.2 % of E4M3 codes under a power-of-two scale, 1.2 % of E2M1 codes."
    ),
    (
        "Multiplying by 448/amax instead of dividing by amax/448 gives up to 4 weights in a "
        "million another code. Casting float32 weights to bfloat16 first gives 2 % of them another "
        "E4M3 code (1.9 to 3.4 %, as the scale falls): ask for it (--master-cast bf16, or @bf16) "
        "where the trainer quantizes a bfloat16 copy, as FSDP with param_dtype=bfloat16 and "
        "Megatron do; torchao's float8 all-gather casts the float32 shard itself."
    ),
    (
        "A scale is made from the layer as it is saved. Where the trainer fuses layers (QKV, gate "
        "and up) or cuts them up (tensor parallelism), it may have had another amax."
    ),
    (
        "Trainers leave embeddings, lm_head, norms and routers alone, and some skip small layers: "
        "--layers and --exclude choose."
    ),
    (
        "Arithmetic is that of the CPU. On a GPU torch divides by a number by multiplying with its "
        "reciprocal, which may change the last bit of a scale. compressed-tensors rounds the "
        "quotient to bfloat16 on a CPU and not on a GPU: here it is not rounded."
    ),
    (
        "Only finite weights make a scale, whatever the source does with the others. Where a "
        "source would divide by a scale of zero, the scale is 1; a factor that overflows is the "
        "largest float32."
    ),
)
"""One paragraph each. Shares were measured on bell-shaped weights."""
