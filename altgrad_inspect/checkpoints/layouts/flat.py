"""One file a checkpoint: ``step_000100.safetensors``, ``model_step100.safetensors``."""

import re
from collections import Counter
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.checkpoints.layouts.step_names import (
    StepName,
    is_set_aside,
    is_shard_name,
    parse_step_name,
)
from altgrad_inspect.checkpoints.layouts.weights import MODEL_NAMES

_LAST_DELIMITED: Final = re.compile(r"^(.*[-_.=]|)([0-9]{1,15})([-_.][^0-9].*)$", re.DOTALL)


class FlatLayout:
    """Safetensors files with a step in their names."""

    name = "flat"
    example = "step_000100.safetensors"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the files that are neither a shard nor a copy set aside.

        Beside a ``model.safetensors`` a bare number means another model and not a step.
        """
        files = [
            file
            for file in listing.weight_files
            if not is_shard_name(file.stem) and not is_set_aside(file.stem)
        ]
        needs_unit = any(file.stem in MODEL_NAMES for file in listing.weight_files)
        steps = {file: _parse_file_name(file, files) for file in files}
        return tuple(
            Candidate(path=file, layout=self.name, step=step.step, stage=step.stage, unit=step.unit)
            for file, step in steps.items()
            if step is not None and (step.unit or not needs_unit)
        )


def _parse_file_name(file: Path, files: list[Path]) -> StepName | None:
    step = parse_step_name(file.stem)
    if step is not None:
        return step
    # A number in the middle is a step if files differ in nothing else.
    inner = _LAST_DELIMITED.match(file.stem)
    if inner is None:
        return None
    templates = Counter(_template(other) for other in files)
    return StepName(step=int(inner.group(2))) if templates[_template(file)] > 1 else None


def _template(file: Path) -> str:
    inner = _LAST_DELIMITED.match(file.stem)
    return f"{inner.group(1)}#{inner.group(3)}" if inner else file.stem
