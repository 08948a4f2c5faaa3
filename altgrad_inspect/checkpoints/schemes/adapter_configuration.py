"""What an adapter's configuration says about the update that its matrices make.

Source: peft: tuners/lora/config.py:LoraConfig, tuners/lora/layer.py, utils/other.py:
get_pattern_key; diffusers: loaders/lora_base.py (``lora_adapter_metadata``).
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError

FILE_NAME: Final = "adapter_config.json"
_METADATA_KEY: Final = "lora_adapter_metadata"
_PREFIX: Final = "base_model.model."
_METHOD: Final = "LORA"
_VARIANTS: Final = {
    "use_dora": "DoRA scales it by norms of the base model's weights",
    "alora_invocation_tokens": "aLoRA applies it to some tokens only",
    "use_qalora": "QALoRA pools the inputs first",
    "use_bdlora": "block-diagonal LoRA stores its matrices in blocks",
    "kasa_config": "KaSA has singular values of its own in it",
    "monteclora_config": "MonteCLoRA draws it at random",
    "arrow_config": "Arrow mixes several adapters token by token",
}
"""Settings under which an update is not scaling * B @ A, and why."""
_RESIDUAL_INITS: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that take something off the base model's weights."""

_QUANTIFIERS: Final = re.compile(r"[*+?{]")
_MOST_QUANTIFIERS: Final = 2
_LONGEST_PATTERN: Final = 256
_LONGEST_MODULE: Final = 512
_LARGEST_ALPHA: Final = 1e30

Number = TypeVar("Number", int, float)
Pattern = tuple[tuple[re.Pattern[str], Number], ...]
"""Regular expressions for names of modules, in order, and the value of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """The configuration of one adapter.

    Attributes:
        source: Where it was read, for messages.
        rank: ``r``, at least 1.
        alpha: ``lora_alpha``.
        is_rank_stabilized: ``use_rslora``: the scaling is alpha / sqrt(r), else alpha / r.
        rank_pattern: Modules that have a rank of their own.
        alpha_pattern: Modules that have an alpha of their own.
        is_transposed: ``fan_in_fan_out``: the base model's weights are (in, out).
        obstacle: Why its updates cannot be computed from it alone; None if they can.
        note: What is to be said of what they are relative to; None if nothing.
    """

    source: str
    rank: int
    alpha: float
    is_rank_stabilized: bool = False
    rank_pattern: Pattern[int] = ()
    alpha_pattern: Pattern[float] = ()
    is_transposed: bool = False
    obstacle: str | None = None
    note: str | None = None

    def find_rank(self, module: str) -> int:
        """Return the rank of a module of the base model."""
        return _find_in_pattern(self.rank_pattern, module, self.rank)

    def find_scaling(self, module: str) -> float:
        """Return what B @ A is multiplied with for a module of the base model."""
        rank = self.find_rank(module)
        alpha = _find_in_pattern(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilized else alpha / rank


def read_adapter_config(
    directory: Path, metadata: Mapping[str, str], component: str
) -> AdapterConfig:
    """Read the configuration of an adapter: the file beside it, else what diffusers notes in it.

    Args:
        directory: Where the adapter lies.
        metadata: The notes in its file.
        component: The first part of the stored names, the model that it is for.

    Raises:
        CheckpointError: There is none, it is not one of LoRA, or a value is not one that PEFT
            writes.
    """
    path = directory / FILE_NAME
    subject = display_name(str(path))
    packed = metadata.get(_METADATA_KEY)
    if path.is_file():
        return parse_adapter_config(read_json_object(path), subject)
    if packed is None:
        msg = (
            f"{subject}: is missing, expected it beside the adapter, because it says how the "
            "matrices are scaled (copy it there, or use --adapters stored)"
        )
        raise CheckpointError(msg)
    source = (
        f"{display_name(str(directory))}: {_METADATA_KEY} of {display_name(component, limit=40)}"
    )
    start = f"{component}."
    found = {
        key.removeprefix(start): value
        for key, value in _unpack(packed, source).items()
        if key.startswith(start)
    }
    return parse_adapter_config(found, source)


def name_module(stored_name: str, component: str) -> str:
    """Return what the base model calls a module, from its stored name without wrapper parts."""
    if stored_name.startswith(_PREFIX):
        return stored_name.removeprefix(_PREFIX)
    return stored_name.removeprefix(f"{component}.")


def _unpack(packed: str, source: str) -> dict[str, object]:
    try:
        found = json.loads(packed)
    except (ValueError, RecursionError) as error:
        msg = f"{source}: is not valid JSON, expected an object (save the adapter again)"
        raise CheckpointError(msg) from error
    return found if isinstance(found, dict) else {}


def parse_adapter_config(content: Mapping[str, object], source: str) -> AdapterConfig:
    """Check what updates depend on.

    Raises:
        CheckpointError: It is of another method, or a value is not what PEFT writes.
    """
    method = content.get("peft_type", _METHOD)
    if method != _METHOD:
        msg = (
            f"{source}: is of an adapter of type {display_name(str(method), limit=40)}, expected "
            f"{_METHOD} (its tensors can be read with --adapters stored)"
        )
        raise CheckpointError(msg)
    variants = [why for key, why in _VARIANTS.items() if content.get(key)]
    init = content.get("init_lora_weights")
    is_residual = isinstance(init, str) and init.lower().startswith(_RESIDUAL_INITS)
    return AdapterConfig(
        source=source,
        rank=_read_rank(content.get("r"), f"{source}: r"),
        alpha=_read_alpha(content.get("lora_alpha"), f"{source}: lora_alpha"),
        is_rank_stabilized=content.get("use_rslora") is True,
        rank_pattern=_read_pattern(content, "rank_pattern", source, _read_rank),
        alpha_pattern=_read_pattern(content, "alpha_pattern", source, _read_alpha),
        is_transposed=content.get("fan_in_fan_out") is True,
        obstacle=variants[0] if variants else None,
        note=(
            f"the adapter began with {display_name(str(init), limit=40)}: its updates are "
            "relative to the base model after that took its part off"
            if is_residual
            else None
        ),
    )


def _read_rank(value: object, subject: str) -> int:
    if type(value) is int and value >= 1:
        return value
    raise _wrong_value(subject, value, "a whole number of at least 1")


def _read_alpha(value: object, subject: str) -> float:
    if isinstance(value, int | float) and type(value) is not bool and abs(value) < _LARGEST_ALPHA:
        return float(value)
    raise _wrong_value(subject, value, "a number")


def _wrong_value(subject: str, value: object, expected: str) -> CheckpointError:
    shown = display_name(repr(value), limit=40)
    return CheckpointError(f"{subject}: is {shown}, expected {expected} (save the adapter again)")


def _read_pattern(
    content: Mapping[str, object], key: str, source: str, read: Callable[[object, str], Number]
) -> Pattern[Number]:
    subject = f"{source}: {key}"
    found = content.get(key) or {}
    if not isinstance(found, dict):
        raise _wrong_value(subject, found, "an object")
    return tuple((_compile(name, subject), read(value, subject)) for name, value in found.items())


def _compile(pattern: str, subject: str) -> re.Pattern[str]:
    """Compile a name of a module, which PEFT takes for a regular expression.

    A checkpoint must not keep us busy for ever, so what can make a search long is refused.
    """
    is_harmless = (
        len(pattern) <= _LONGEST_PATTERN
        and len(_QUANTIFIERS.findall(pattern)) <= _MOST_QUANTIFIERS
        and "(?" not in pattern
    )
    try:
        compiled = re.compile(rf"(.*\.)?({pattern})$") if is_harmless else None
    except (re.error, RecursionError, OverflowError):
        compiled = None
    if compiled is None:
        raise _wrong_value(subject, pattern, "names of modules or simple regular expressions")
    return compiled


def _find_in_pattern(pattern: Pattern[Number], module: str, default: Number) -> Number:
    """Return the value of the first name or expression that ends the module's name."""
    if pattern and len(module) > _LONGEST_MODULE:
        msg = f"module {display_name(module, limit=80)}: has too long a name (rename it)"
        raise CheckpointError(msg)
    return next((value for name, value in pattern if name.match(module)), default)
