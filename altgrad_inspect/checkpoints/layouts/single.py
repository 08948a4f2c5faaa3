"""One checkpoint: a directory with the weights in it, whole or in shards."""

from altgrad_inspect.checkpoints.layouts.listing import Candidate, Listing
from altgrad_inspect.checkpoints.layouts.step_names import is_set_aside, is_shard_name
from altgrad_inspect.checkpoints.layouts.weights import MODEL_NAMES
from altgrad_inspect.checkpoints.weight_index import INDEX_SUFFIX


class SingleLayout:
    """A directory that is itself the checkpoint."""

    name = "single"
    example = "model.safetensors"

    def find_candidates(self, listing: Listing) -> tuple[Candidate, ...]:
        """Return the directory itself if weights lie in it."""
        usual = [
            file
            for file in listing.weight_files
            if not is_shard_name(file.stem) and not is_set_aside(file.stem)
        ]
        is_named = any(file.stem in MODEL_NAMES for file in usual)
        has_index = any(
            file.name.removesuffix(INDEX_SUFFIX) in MODEL_NAMES for file in listing.files
        )
        has_shards = any(is_shard_name(file.stem) for file in listing.weight_files)
        if is_named or has_index or has_shards or len(usual) == 1:
            return (Candidate(path=listing.path, layout=self.name),)
        return ()
