"""``trainer_state.json`` of Hugging Face trainers: the step, and the losses so far."""

import re
from pathlib import Path
from typing import Final, TypeGuard

from altgrad_inspect.checkpoints.json_files import read_json_object
from altgrad_inspect.display import display_name
from altgrad_inspect.errors import CheckpointError
from altgrad_inspect.storage.local import LocalReader

FILE_NAME: Final = "trainer_state.json"
_HEAD_BYTES: Final = 65_536
_LARGEST_STEP: Final = (1 << 63) - 1
_GLOBAL_STEP: Final = re.compile(rb'"global_step"\s*:\s*([0-9]{1,15})\s*[,}]')


def read_global_step(directory: Path) -> int | None:
    """Return the step that the trainer wrote down in a checkpoint, None if there is none.

    The file repeats the whole history at every checkpoint, so only its start is read when
    that is enough: keys are sorted, and ``global_step`` comes before ``log_history``.

    Raises:
        CheckpointError: The file is there and cannot be read.
    """
    path = directory / FILE_NAME
    if not path.is_file():
        return None
    with LocalReader(path) as reader:
        head = reader.read(0, min(_HEAD_BYTES, reader.size_bytes))
    before_history, _, _ = head.partition(b'"log_history"')
    found = _GLOBAL_STEP.findall(before_history)
    if len(found) == 1:
        return int(found[0])
    step = read_json_object(path).get("global_step")
    return step if _is_step(step) else None


def read_losses(directory: Path) -> tuple[tuple[int, float], ...]:
    """Return (step, training loss) from the trainer's log, ascending, one entry a step.

    A step that was logged twice (after a resume) counts with its last loss. Losses may be
    NaN or infinite.

    Raises:
        CheckpointError: The file cannot be read or is not what a trainer writes.
    """
    history = read_json_object(directory / FILE_NAME).get("log_history")
    if not isinstance(history, list):
        subject = display_name(str(directory / FILE_NAME))
        msg = f"{subject}: has no log_history, expected a list (save it again)"
        raise CheckpointError(msg)
    losses: dict[int, float] = {}
    for entry in history:
        if isinstance(entry, dict):
            step, loss = entry.get("step"), entry.get("loss")
            if _is_step(step) and (isinstance(loss, float) or _is_step(loss)):
                losses[step] = float(loss)
    return tuple(sorted(losses.items()))


def _is_step(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _LARGEST_STEP
