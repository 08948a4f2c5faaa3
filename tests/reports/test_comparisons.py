"""What is said about two checkpoints, two runs, and one run in many formats."""

from pathlib import Path

import pytest

import altgrad_inspect as ai
from altgrad_inspect.reports.build import build_report
from altgrad_inspect.reports.model import Report, Section
from altgrad_inspect.reports.render_markdown import render_markdown
from altgrad_inspect.reports.render_terminal import Page, render_terminal

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
PATTERNS = ["lm_head", "layers.2.mlp", "layers.3.self_attn.q_proj"]
FIRST = SAMPLES / "faulty" / "step_000125.safetensors"
LAST = SAMPLES / "faulty" / "step_001500.safetensors"


def section(report: Report, title: str) -> Section:
    return next(one for one in report.sections if one.title.startswith(title))


def facts(report: Report) -> dict[str, str]:
    return {fact.label: fact.text for fact in report.facts}


@pytest.fixture(scope="module")
def diff() -> ai.Results:
    return ai.diff(FIRST, LAST, layers=PATTERNS)


@pytest.fixture(scope="module")
def sweep() -> ai.Results:
    return ai.sweep(SAMPLES / "faulty", layers=PATTERNS, last=5)


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> ai.Results:
    outs = []
    for name, patterns in (("healthy", PATTERNS), ("faulty", [*PATTERNS, "layers.1.mlp.up"])):
        outs.append(tmp_path_factory.mktemp(name))
        ai.report(SAMPLES / name, layers=patterns).write(outs[-1])
    return ai.compare(*outs)


@pytest.mark.parametrize("width", [40, 80, 160, None])
@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("name", ["diff", "sweep", "compare"])
def test_reports_fit_their_page(
    name: str, *, verbose: bool, width: int | None, request: pytest.FixtureRequest
) -> None:
    report = build_report(request.getfixturevalue(name), verbose=verbose)
    text = render_terminal(report, Page(width=width))
    assert text.startswith(f"altgrad-inspect {name}")
    if width is not None and width >= 80:
        assert max(map(len, text.splitlines())) <= width
    assert render_markdown(report).count("\n") > 10


def test_a_diff_says_what_a_and_b_are_and_counts_the_layers(diff: ai.Results) -> None:
    report = build_report(diff)
    assert facts(report)["A"] == f"{FIRST}, called step 125"
    assert facts(report)["B"] == f"{LAST}, called step 1500"
    assert facts(report)["layers"] == "6 changed"
    changed = section(report, "Changed layers")
    assert changed.rows[0][0] == "model.layers.3.self_attn.q_proj.bias"
    updates = [row[1] for row in changed.rows]
    assert updates == sorted(updates, key=lambda value: -float(str(value)))
    assert any("no rank of B: zero matrix" in note for note in changed.footnotes)
    assert "quantizer" not in [column.title for column in changed.columns]


def test_a_diff_shows_the_largest_updates_and_says_how_many_more_there_are() -> None:
    results = ai.diff(FIRST, LAST)
    short = section(build_report(results), "Changed layers")
    assert len(short.rows) == 25
    assert "and 25 more with smaller updates: -v shows them" in short.footnotes
    long = section(build_report(results, verbose=True), "Changed layers")
    assert len(long.rows) == 50


def test_differences_of_structure_are_listed_first(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2, 3), "gone": torch.ones(2)}, tmp_path / "a.safetensors")
    save_file({"w": torch.ones(3, 2), "same": torch.ones(2)}, tmp_path / "b.safetensors")
    report = build_report(ai.diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors"))
    assert [one.title for one in report.sections] == [
        "Layers that differ in structure",
        "Changed layers, largest update first",
    ]
    assert report.sections[0].rows == (
        ("same", "added", "F32", None, (2,), None),
        ("gone", "removed", "F32", (2,), None, None),
        ("w", "reshaped", "F32", (2, 3), (3, 2), None),
    )
    assert facts(report)["layers"] == "1 added, 1 removed, 1 reshaped"


def test_a_sweep_answers_which_format_stalls_and_what_stalls_in_all(sweep: ai.Results) -> None:
    report = build_report(sweep)
    said = facts(report)
    assert said["scales"] == "tensor:amax"
    assert said["in every format"] == "model.layers.2.mlp.down_proj.weight"
    assert said["would stall"].endswith("of 6 layers")
    formats = section(report, "Formats")
    names = [row[0] for row in formats.rows]
    assert "e0m7 = e1m6 = int8" in names
    assert len(names) == 11
    numbers = [int(str(row[1])) for row in formats.rows]
    assert numbers == sorted(numbers, reverse=True)
    stalling = section(report, "Layers that would stall")
    assert ("model.layers.2.mlp.down_proj.weight", 11) in [row[:2] for row in stalling.rows]
    every = section(build_report(sweep, verbose=True), "Layers in every format")
    assert len(every.rows) == 6 * 11


def test_a_sweep_in_which_nothing_stalls_says_so() -> None:
    results = ai.sweep(SAMPLES / "healthy", layers=["lm_head"], quant=["e4m3", "int8:channel"])
    report = build_report(results)
    assert facts(report) == {"would stall": "none"}
    names = [row[0] for row in section(report, "Formats").rows]
    assert sorted(map(str, names)) == ["e4m3:tensor:amax", "int8:channel:amax"]
    assert section(report, "Layers that would stall").rows == ()


def test_a_comparison_says_who_has_more_to_worry_about(compare: ai.Results) -> None:
    report = build_report(compare)
    assert facts(report)["worse"].startswith("B has more critical alerts than A: ")
    rows = {row[0]: row for row in section(report, "Totals").rows}
    assert rows["layers"][1:3] == (6, 7)
    assert list(rows)[:3] == ["layers", "critical alerts", "warnings"]
    both = section(report, "Layers of both runs")
    titles = [column.title for column in both.columns]
    verdicts = [row[titles.index("verdict B")] for row in both.rows]
    healthy = [word == "healthy" for word in verdicts]
    assert healthy == sorted(healthy)
    assert not healthy[0]
    assert section(report, "Layers of one run").rows == (
        ("model.layers.1.mlp.up_proj.weight", "only B"),
    )
    verbose = section(build_report(compare, verbose=True), "Layers of both runs")
    assert len(verbose.rows) == 6


def test_a_run_compared_with_itself_has_nothing_to_show(tmp_path: Path) -> None:
    ai.report(SAMPLES / "healthy", layers=["lm_head"]).write(tmp_path)
    report = build_report(ai.compare(tmp_path, tmp_path))
    both = section(report, "Layers of both runs")
    assert both.rows == ()
    assert both.footnotes == ("1 of 1 rows are the same in both runs",)
    assert "worse" not in facts(report)
