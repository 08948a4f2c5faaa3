"""What holds for every storage scheme."""

from altgrad_inspect.checkpoints.scheme_catalogue import SCHEME_FACTS
from altgrad_inspect.checkpoints.schemes import SCHEMES


def test_every_scheme_is_in_the_catalogue_once() -> None:
    names = [scheme.name for scheme in SCHEMES]
    assert sorted(names) == sorted(SCHEME_FACTS)
    assert len(set(names)) == len(names)
