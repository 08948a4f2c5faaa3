"""One file a checkpoint, or its shards: ``step_000100.safetensors``, ``model_step100-00001-of-…``.

A directory of such files is a run.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from altgrad_inspect.checkpoints.assemblies.dcp_shards import FILE_NAME as DCP_FILE_NAME
from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.checkpoints.layouts.step_names import (
    StepName,
    is_set_aside,
    parse_step_name,
)
from altgrad_inspect.checkpoints.layouts.weights import MODEL_NAMES, shard_stem

_LAST_DELIMITED: Final = re.compile(r"^(.*[-_.=]|)([0-9]{1,15})([-_.][^0-9].*)$", re.DOTALL)
_NUMBERS: Final = re.compile(r"[0-9]+")


class FlatLayout:
    """Safetensors files with a step in their names."""

    name = "flat"
    example = "step_000100.safetensors"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the files, and the groups of shards, that are no copies set aside.

        Beside a ``model.safetensors`` a bare number means another model and not a step, and
        shards without a word for a step are steps only if there are several such groups.
        """
        files, groups = _group(listing)
        names = [*files, *groups]
        needs_unit = any(file.stem in MODEL_NAMES for file in listing.weight_files)
        found = []
        for name in names:
            step = _parse_name(name, names)
            is_step = step is not None and (step.unit != "" or not needs_unit)
            is_one_of_several = name in files or _count_like(name, groups) > 1
            if step is None or not is_step or not (step.unit or is_one_of_several):
                continue
            shards = groups.get(name, ())
            found.append(
                Candidate(
                    path=shards[0] if shards else files[name],
                    layout=self.name,
                    step=step.step,
                    stage=step.stage,
                    unit=step.unit,
                    files=shards,
                )
            )
        return tuple(found)


def find_flat(path: Path, listing: Listing) -> Candidate | None:
    """Return the checkpoint that a file is, or is a shard of, among those of its directory."""
    candidates = FlatLayout().find_candidates(listing)
    return next(
        (one for one in candidates if path.name in {file.name for file in (one.path, *one.files)}),
        None,
    )


def _group(listing: Listing) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """Return the whole files by their names without suffix, and the shards by what they share."""
    usual = [
        file
        for file in listing.weight_files
        if not is_set_aside(file.stem) and not DCP_FILE_NAME.fullmatch(file.name)
    ]
    files = {file.stem: file for file in usual if shard_stem(file.stem) is None}
    groups: dict[str, tuple[Path, ...]] = {}
    for file in usual:
        stem = shard_stem(file.stem)
        if stem is not None and stem not in files and stem not in MODEL_NAMES:
            groups[stem] = (*groups.get(stem, ()), file)
    return files, groups


def _parse_name(name: str, names: list[str]) -> StepName | None:
    step = parse_step_name(name)
    if step is not None:
        return step
    # A number in the middle is a step if files differ in nothing else.
    inner = _LAST_DELIMITED.match(name)
    if inner is None:
        return None
    templates = Counter(_template(other) for other in names)
    return StepName(step=int(inner.group(2))) if templates[_template(name)] > 1 else None


def _template(name: str) -> str:
    inner = _LAST_DELIMITED.match(name)
    return f"{inner.group(1)}#{inner.group(3)}" if inner else name


def _count_like(name: str, names: Iterable[str]) -> int:
    """How many names differ from one in numbers only."""
    shape = _NUMBERS.sub("#", name)
    return sum(_NUMBERS.sub("#", other) == shape for other in names)
