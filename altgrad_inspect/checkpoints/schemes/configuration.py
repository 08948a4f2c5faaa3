"""What the files beside the weights say about how they are quantized."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.checkpoints.schemes.scheme import SchemeContext
from altgrad_inspect.errors import CheckpointError

_CONFIG: Final = "config.json"
_SECTIONS: Final = ("quantization_config", "compression_config")
_MODELOPT: Final = "hf_quant_config.json"
_GPTQ: Final = "quantize_config.json"


def read_context(
    directory: Path, metadata: Mapping[str, str]
) -> tuple[SchemeContext, tuple[str, ...]]:
    """Read the first file that says anything; also notes, of files that cannot be read.

    A broken file is no reason to refuse the weights: names, dtypes and shapes decide then.
    """
    notes: list[str] = []
    for file_name, find in _FINDERS:
        path = directory / file_name
        if not path.is_file():
            continue
        try:
            found = find(read_json_object(path))
        except CheckpointError as error:
            notes.append(f"{error}; how the weights are quantized is told from their names")
            continue
        if found is not None:
            method, settings = found
            return (
                SchemeContext(
                    method=method, settings=settings, source=file_name, metadata=metadata
                ),
                tuple(notes),
            )
    return SchemeContext(metadata=metadata), tuple(notes)


def _find_in_config(content: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    for holder in (content, content.get("text_config")):
        for key in _SECTIONS:
            section = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(section, dict):
                method = section.get("quant_method")
                return (method.lower() if isinstance(method, str) else "", section)
    return None


def _find_modelopt(content: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    section = content.get("quantization")
    return ("modelopt", section) if isinstance(section, dict) else None


def _find_gptq(content: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    method = content.get("quant_method")
    return (method.lower() if isinstance(method, str) else "gptq", content)


_FINDERS: Final = ((_CONFIG, _find_in_config), (_MODELOPT, _find_modelopt), (_GPTQ, _find_gptq))
