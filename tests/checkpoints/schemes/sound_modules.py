"""One small valid module of every way to store one, of the libraries' own files where there are."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tests.checkpoints.schemes.raw_tensors import RawTensor, RawTensors, raw, read_raw

_OF_HQQ = ("W_q", ".scale", ".zero", "nbits", "axis", "group_size", ".shape", "packing")
DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundModule:
    """The tensors of one module, and what stands beside their file.

    Attributes:
        scheme: That its layer is stored in.
        name: What tells it from others of the scheme.
        tensors: By name.
        files: JSON files, by name.
        metadata: Of the safetensors file, by name of a layer.
        merges_adapters: Whether it is wanted as an update.
    """

    scheme: str
    name: str
    tensors: RawTensors
    files: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    merges_adapters: bool = False

    def with_tensors(self, tensors: RawTensors) -> "SoundModule":
        """The same module of other tensors."""
        return replace(self, tensors=tensors)

    def __str__(self) -> str:
        return f"{self.scheme}: {self.name}"


def quantized(method: str, **settings: object) -> dict[str, object]:
    return {"config.json": {"quantization_config": {"quant_method": method, **settings}}}


def _draw(dtype: str, *shape: int, most: int = 256) -> RawTensor:
    """Codes of one byte."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, most, shape, dtype=torch.uint8, generator=generator)
    return RawTensor(dtype=dtype, shape=shape, content=raw(codes).content)


def _words(*shape: int) -> RawTensor:
    found = _draw("U8", *shape, 4)
    return RawTensor(dtype="I32", shape=shape, content=found.content)


def _ones(*shape: int, dtype: torch.dtype = torch.float32) -> RawTensor:
    return raw(torch.ones(shape).to(dtype))


def _from_file(
    scheme: str, path: str, modules: Mapping[str, Mapping[str, object]]
) -> Iterator[SoundModule]:
    """Modules of a file, each with the JSON files that stand beside it."""
    tensors, metadata = read_raw(DATA / path)
    for module, beside in modules.items():
        own = {name: one for name, one in tensors.items() if name.startswith(f"{module}.")}
        assert own, f"{path} holds no {module}"
        said = {name: text for name, text in metadata.items() if name.startswith(f"{module}.")}
        yield SoundModule(
            scheme=scheme, name=module, tensors=own, files=dict(beside), metadata=said
        )


def _alone(modules: Iterable[str]) -> dict[str, dict[str, object]]:
    """Modules with nothing beside their file."""
    return {module: {} for module in modules}


def _beside(path: str) -> dict[str, object]:
    found = DATA / path
    return {found.name: json.loads(found.read_text())}


def _packed() -> Iterator[SoundModule]:
    of_awq = {"m.qweight": _words(64, 2), "m.qzeros": _words(2, 2), "m.scales": _ones(2, 16)}
    gemv = {"m.qweight": _words(4, 8), "m.qzeros": _words(4, 1), "m.scales": _ones(4, 8)}
    by_round = quantized("auto-round", packing_format="auto_round:auto_awq")
    settings: dict[str, tuple[RawTensors, dict[str, object]]] = {
        "named": (of_awq, quantized("awq", version="gemm")),
        "unnamed": (of_awq, {}),
        "auto-round": (of_awq, by_round),
        "gemv": (gemv, quantized("awq", version="gemv", group_size=32)),
    }
    for name, (tensors, files) in settings.items():
        yield SoundModule(scheme="awq", name=name, tensors=tensors, files=files)
    for version, bits in (("gptq", (3,)), ("gptq_v2", (2,)), ("gptq_p", (5,))):
        beside = _beside(f"gptq/{version}/config.json")
        modules = {f"of_{one}_bits": beside for one in bits}
        yield from _from_file("gptq", f"gptq/{version}/model.safetensors", modules)
    without: dict[str, Mapping[str, object]] = {"of_4_bits": {}}
    for module in _from_file("gptq", "gptq/gptq/model.safetensors", without):
        yield module
        runs = {name: one for name, one in module.tensors.items() if "g_idx" not in name}
        files = quantized("auto-round", bits=4, packing_format="auto_round:auto_gptq")
        yield SoundModule(scheme="gptq", name="auto-round", tensors=runs, files=files)
    for module in _from_file("hqq", "hqq/model.safetensors", _alone(["axis_0_of_3_bits"])):
        used = {name: one for name, one in module.tensors.items() if name.endswith(_OF_HQQ)}
        yield module.with_tensors(used)
    names = ("nf4", "fp4_nested")
    run = "bitsandbytes/run/step_0.safetensors"
    yield from _from_file("bnb-4bit", run, _alone(names))
    yield from _from_file("bnb-int8", run, {"int8": {}})
    ternary = {"m.weight": _draw("U8", 4, 6).filled(0x24), "m.weight_scale": _ones(1)}
    yield SoundModule(scheme="bitnet", name="ternary", tensors=ternary)


def _floats() -> Iterator[SoundModule]:
    codes, rows = _draw("F8_E4M3", 6, 64, most=120), _ones(6, 1)
    fp8 = {"m.weight": codes, "m.weight_scale_inv": _ones(1, 1)}
    experts = {
        "m.experts.up": _draw("I8", 2, 6, 32),
        "m.experts.up_scale_inv": _draw("F8_E8M0", 2, 6, 2, most=128),
    }
    yield SoundModule(scheme="block-fp8", name="unnamed", tensors=fp8)
    yield SoundModule(scheme="block-fp8", name="fp4", tensors=experts)
    yield SoundModule(
        scheme="fbgemm-fp8",
        name="rows",
        tensors={"m.weight": codes, "m.weight_scale": rows},
        files=quantized("fbgemm_fp8"),
    )
    stacked = {"m.up": _draw("F8_E4M3", 2, 6, 8, most=120), "m.up_scale": _ones(2, 8, 1)}
    yield SoundModule(
        scheme="fbgemm-fp8", name="experts", tensors=stacked, files=quantized("fbgemm_fp8")
    )
    f4 = {"m.weight": _draw("U8", 6, 16).stored_as("F4", (6, 32)), "m.weight_scale": _ones(6, 2)}
    whole = {"m.weight_scale_2": _ones()}
    for name, tensors in (("scale", f4), ("two scales", {**f4, **whole})):
        yield SoundModule(scheme="native-f4", name=name, tensors=_whole(tensors))
    blocks, _ = read_raw(DATA / "mxfp4" / "gpt_oss.safetensors")
    gpt_oss = {f"m.up_{name}": blocks[name] for name in ("blocks", "scales")}
    yield SoundModule(scheme="mxfp4", name="gpt-oss", tensors=gpt_oss)


def _whole(tensors: Mapping[str, RawTensor | None]) -> dict[str, RawTensor]:
    return {name: one for name, one in tensors.items() if one is not None}


def _of_compressed_tensors() -> Iterator[SoundModule]:
    configured = _beside("compressed_tensors/run/config.json")
    schemes = {
        "ct-pack": ("pack3_zero", "pack4", "pack8"),
        "ct-nvfp4": ("nvfp4",),
        "ct-mx": ("mxfp4", "mxfp6"),
        "ct-int": ("int8_zero",),
        "ct-float": ("float8", "float8_block", "mxfp8"),
    }
    run = "compressed_tensors/run/step_0.safetensors"
    for scheme, names in schemes.items():
        own = {name: _configure_one(configured, name) for name in names}
        yield from _from_file(scheme, run, own)
    yield from _from_file("ct-pack", run, {"pack4_zero": {}})


def _of_modelopt() -> Iterator[SoundModule]:
    configured = _beside("modelopt/run/hf_quant_config.json")
    schemes = {
        "modelopt-fp8": ("fp8_blocks", "fp8_rows", "mxfp8"),
        "modelopt-fp4": ("nvfp4", "mxfp4"),
        "modelopt-int8": ("int8",),
        "modelopt-int4": ("int4",),
    }
    run = "modelopt/run/step_0.safetensors"
    for scheme, names in schemes.items():
        yield from _from_file(scheme, run, dict.fromkeys(names, configured))
    tensors, _ = read_raw(DATA / run)
    for last in ("up_proj", "down_proj"):
        own = {name: one for name, one in tensors.items() if name.startswith(f"experts.{last}")}
        yield SoundModule(scheme="modelopt-fp4", name=last, tensors=own, files=configured)


def _configure_one(files: Mapping[str, object], module: str) -> dict[str, object]:
    """What a configuration says about one of its modules, for a module of any name."""
    (section,) = json.loads(json.dumps(files["config.json"])).values()
    groups = section["config_groups"]
    section["config_groups"] = {
        name: group for name, group in groups.items() if group["targets"] == [module]
    }
    return {"config.json": {"quantization_config": section}}


def _of_torchao() -> Iterator[SoundModule]:
    path = "torchao/flattened.safetensors"
    names = ("f8_block", "int8_asym", "int3_asym", "int1", "mx8", "mx4", "nvfp4", "nvfp4_stack")
    yield from _from_file("torchao", path, _alone(names))
    for module in _from_file("torchao", path, {"f8_row": {}, "int8": {}}):
        name = f"{module.name} by names"
        yield SoundModule(scheme="torchao", name=name, tensors=module.tensors)
    said = {"_type": "Int4Tensor", "_data": {"block_size": [1, 32]}}
    yield SoundModule(
        scheme="torchao",
        name="Int4Tensor",
        tensors={
            "m._weight_qdata": _draw("U8", 6, 32),
            "m._weight_scale": _ones(2, 6),
            "m._weight_zero_point": _ones(2, 6),
        },
        metadata={"m.weight": json.dumps(said)},
    )


def _of_quanto() -> Iterator[SoundModule]:
    names = ("qint8.odd", "qfloat8_e4m3fn.conv", "qint4.grouped", "qint4.flat", "qint2.conv")
    yield from _from_file("quanto", "quanto/state_dict.safetensors", _alone(names))


def _others() -> Iterator[SoundModule]:
    zero = {"m.weight": _draw("U8", 6, 8), "m.scale": _ones(6, 1), "m.zero_point": _ones(6, 1)}
    absmax = {"m.weight": _draw("I8", 6, 8), "m.absmax": _ones(6)}
    fp8 = {"m.weight": _draw("F8_E4M3", 6, 8, most=120), "m.weight.qscale": _ones()}
    for name, tensors in (("zero points", zero), ("absmax", absmax), ("fp8", fp8)):
        yield SoundModule(scheme="generic", name=name, tensors=tensors)
    files = _beside("lora_update/plain/adapter_config.json")
    tensors, _ = read_raw(DATA / "lora_update" / "plain" / "adapter_model.safetensors")
    for last in ("blocks.0.q_proj", "embed", "image", "volume"):
        module = f"base_model.model.{last}."
        yield SoundModule(
            scheme="lora-update",
            name=last,
            tensors={name: one for name, one in tensors.items() if name.startswith(module)},
            files=files,
            merges_adapters=True,
        )


SOUND_MODULES = (
    *_packed(),
    *_floats(),
    *_of_compressed_tensors(),
    *_of_modelopt(),
    *_of_torchao(),
    *_of_quanto(),
    *_others(),
)
