"""The page of layouts names every layout there is."""

from pathlib import Path

from altgrad_inspect.checkpoints.assemblies import ASSEMBLIES, DCP_SHARDS, NANOTRON
from altgrad_inspect.checkpoints.layouts import LAYOUTS, accelerate, olmo, torchtitan, torchtune
from altgrad_inspect.checkpoints.layouts.foreign import EXPLANATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "layouts.md").read_text()


def test_every_layout_is_described() -> None:
    named = {layout.name for layout in LAYOUTS} | {NANOTRON, DCP_SHARDS}
    named |= {one.NAME for one in (accelerate, olmo, torchtitan, torchtune)}
    assert {name for name in named if f"| `{name}` |" not in PAGE} == set()
    assert named >= {name for name in ASSEMBLIES if name in {NANOTRON, DCP_SHARDS, "olmo"}}


def test_everything_that_is_answered_is_named() -> None:
    words = [explain.__name__.removeprefix("explain_") for explain in EXPLANATIONS]
    assert [word for word in words if word not in PAGE.lower()] == []
