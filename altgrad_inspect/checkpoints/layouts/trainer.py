"""Hugging Face trainers: ``checkpoint-500/`` with the model and ``trainer_state.json``."""

import re
from typing import Final

from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing

_NAME: Final = re.compile(r"checkpoint-([0-9]{1,15})")


class TrainerLayout:
    """Directories called ``checkpoint-`` and a step."""

    name = "trainer"
    example = "checkpoint-500/"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the checkpoint directories."""
        matches = ((path, _NAME.fullmatch(path.name)) for path in listing.directories)
        return tuple(
            Candidate(path=path, layout=self.name, step=int(match.group(1)), unit="step")
            for path, match in matches
            if match is not None
        )
