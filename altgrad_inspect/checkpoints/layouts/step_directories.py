"""Directories named by their step: ``step1000/``, ``iter_0001000/``, ``epoch_3/``, ``250/``."""

from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.checkpoints.layouts.step_names import is_set_aside, parse_step_name
from altgrad_inspect.checkpoints.layouts.trainer import TrainerLayout


class StepDirectoriesLayout:
    """Directories whose name has a step, an iteration, an epoch or is a number."""

    name = "step-directories"
    example = "step_000100/"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the directories that are not a trainer's."""
        trainers = {candidate.path for candidate in TrainerLayout().find_candidates(listing)}
        found = []
        for path in listing.directories:
            step = parse_step_name(path.name)
            is_named = step is not None and (step.unit != "" or path.name.isdecimal())
            if step is not None and is_named and path not in trainers:
                found.append(
                    Candidate(
                        path=path,
                        layout=self.name,
                        step=step.step,
                        stage=step.stage,
                        unit=step.unit,
                    )
                )
        return tuple(candidate for candidate in found if not is_set_aside(candidate.path.name))
