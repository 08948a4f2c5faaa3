"""From tables to what is said: order, counts, columns, reasons."""

from dataclasses import replace

import pytest

from altgrad_inspect.reports.build import build_report
from altgrad_inspect.reports.gaps import build_gaps
from altgrad_inspect.reports.model import Report, Section
from altgrad_inspect.reports.sections.rows import natural_key
from altgrad_inspect.tables.results import Results
from tests.reports.examples import (
    ATTENTION,
    DEAD,
    FALLING,
    HEAD,
    MLP,
    flips_row,
    make_checkpoints,
    make_every_verdict,
    make_results,
    make_table,
    ranks_row,
    trends_rows,
)


def find_section(report: Report, title: str) -> Section:
    return next(section for section in report.sections if section.title == title)


def titles(section: Section) -> list[str]:
    return [column.title for column in section.columns]


BROKEN = "cannot be read: Input/output error"
NOT_THERE = "model-00002-of-00002.safetensors is not there yet"
NORM = "model.layers.0.input_layernorm.weight"
TABLES = ("flips", "ranks", "trends", "skipped")


def fact(report: Report, label: str) -> str:
    return next(fact.text for fact in report.facts if fact.label == label)


def test_the_run_is_described_by_its_usable_checkpoints(results: Results) -> None:
    report = build_report(results)
    assert fact(report, "checkpoints") == "6, steps 100 to 600"
    assert fact(report, "each holds") == "40 layers, 1,234,567 weights, 14.8 MB over the run"
    assert fact(report, "looked at") == "16 layers"
    assert fact(report, "quantizer") == "e4m3:tensor:amax"
    assert fact(report, "ranks") == "exact, relative error below 1e-07"


def test_without_verdicts_the_alerts_are_counted_by_severity(results: Results) -> None:
    counts = {count.label: count.number for count in build_report(results).counts}
    assert counts == {"critical": 2, "warning": 2, "info": 1}


def test_verdicts_are_counted_worst_first_and_look_like_their_severity() -> None:
    counts = build_report(make_every_verdict()).counts
    assert [(count.number, count.label, count.look) for count in counts] == [
        (1, "nonfinite", "critical"),
        (1, "dead", "critical"),
        (1, "bit-stalled", "critical"),
        (1, "outlier-dominated", "critical"),
        (101, "collapsing", "critical"),
        (1, "oscillating", "warning"),
        (1, "rescaling", "warning"),
        (1, "stalling", "warning"),
        (1, "frozen", "info"),
        (1, "healthy", "healthy"),
        (1, "undecided", "undecided"),
    ]


def test_what_was_not_measured_is_said_worst_first(results: Results) -> None:
    assert [gap.text for gap in build_report(results).gaps] == [
        f"1 row of flips failed, first at step 600: {BROKEN}, e.g. {DEAD}",
        f"3 rows of ranks undefined, first at step 400: zero matrix, e.g. {DEAD}",
        f"1 checkpoint left out: {NOT_THERE}, e.g. checkpoint-700",
        f"12 layers left out: ranks: 1-D, e.g. {NORM} (skipped.parquet)",
    ]


def test_the_most_frequent_reason_is_told_and_the_others_are_counted() -> None:
    rows = [
        ranks_row(layer, 100, None, reason=why)
        for layer, why in (("a", "rare"), ("b", "often (7)"), ("c", "often (9)"))
    ]
    (gap,) = build_gaps({"ranks": make_table("ranks", rows)})
    assert gap.text == (
        "3 rows of ranks undefined, first at step 100: often, e.g. b; 1 other reason"
    )


def test_a_report_prints_tables_only_on_request(results: Results) -> None:
    assert build_report(results).sections == ()
    asked = build_report(results, shown=("ranks", "flips"))
    assert [section.title for section in asked.sections] == [
        *("Flips per layer", "Stable and effective rank per layer"),
    ]
    every = [section.title for section in build_report(results, verbose=True).sections]
    assert every[0] == "Checkpoints"
    assert {"Flips per transition", "Trends", "Left out"} <= set(every)


def test_verdicts_are_listed_worst_first() -> None:
    (section,) = build_report(make_every_verdict(), shown=("verdicts",)).sections
    assert [row[1] for row in section.rows[:5]] == [
        *("nonfinite", "dead", "bit-stalled", "outlier-dominated", "collapsing"),
    ]
    assert section.rows[4][0] == "model.layers.0.mlp.down_proj.weight"
    assert [row[1:3] for row in section.rows[-3:]] == [
        *(("frozen", "info"), ("healthy", None), ("undecided", None)),
    ]


def test_flips_are_medians_over_the_transitions_in_natural_order(results: Results) -> None:
    section = find_section(build_report(results, shown=TABLES), "Flips per layer")
    assert [row[0] for row in section.rows] == [HEAD, DEAD, ATTENTION, MLP]
    head = dict(zip(titles(section), section.rows[0], strict=True))
    assert head["flipped"] == 7000 / 65_536
    assert head["last"] == 3 / 65_536
    assert head["stalled"] == 1 - 7000 / 30_000
    assert head["recoded"] == 7007 / 65_536
    assert head["reverted"] == pytest.approx(0.1)
    assert head["history"] == tuple(n / 65_536 for n in (9000, 8000, 7000, 900, 3))


def test_a_second_quantizer_brings_its_column() -> None:
    rows = [flips_row("a", 0, 5), flips_row("a", 0, 6, quantizer="int8:channel:amax")]
    report = build_report(make_results("flips", flips=make_table("flips", rows)))
    section = find_section(report, "Flips per layer")
    assert titles(section)[1] == "quantizer"
    assert [row[1] for row in section.rows] == ["e4m3:tensor:amax", "int8:channel:amax"]


def test_rows_that_are_not_ok_are_explained_once_a_reason(results: Results) -> None:
    report = build_report(results, shown=TABLES)
    (undefined,) = find_section(report, "Stable and effective rank per layer").footnotes
    assert undefined == f"undefined, zero matrix: 3 rows, first at step 400, in {DEAD}"
    assert (
        "failed, cannot be read: Input/output error: 1 row, first at step 600, in "
        f"{DEAD}" in find_section(report, "Flips per layer").footnotes
    )


def test_a_reason_in_several_layers_counts_the_others() -> None:
    rows = [ranks_row(f"l.{index}", 100, None) for index in range(3)]
    report = build_report(make_results("ranks", ranks=make_table("ranks", rows)))
    (note,) = report.sections[0].footnotes
    assert note == "undefined, zero matrix: 3 rows, first at step 100, in l.0 and 2 other layers"


def test_ranks_go_from_the_first_to_the_last_step(results: Results) -> None:
    section = find_section(
        build_report(results, shown=TABLES), "Stable and effective rank per layer"
    )
    assert titles(section) == [
        *("layer", "stable", "change", "history", "effective", "change", "history", "method"),
    ]
    head, dead, *_ = section.rows
    assert head[1] == (43.9, 1.21)
    assert head[2] == pytest.approx(1.21 / 43.9 - 1)
    assert dead[1] == (5.0, None)
    assert dead[2] is None


def test_stacks_of_matrices_and_updates_bring_their_columns() -> None:
    rows = [ranks_row("a", 100, 2.0), ranks_row("a", 100, 3.0, matrix=1, subject="update")]
    report = build_report(make_results("ranks", ranks=make_table("ranks", rows)), verbose=True)
    for section in report.sections:
        assert titles(section)[:3] == ["layer", "matrix", "of"]
    assert report.sections[0].rows[1][:4] == ("a", 1, "update", (3.0,))


def test_trends_show_the_last_state_and_name_the_quantizer_only_if_there_are_two() -> None:
    rows = trends_rows(HEAD, FALLING, "critical")
    one = [{**row, "metric": "flip_fraction[e4m3:tensor:amax]"} for row in rows]
    other = [{**row, "metric": "flip_fraction[int8:tensor:amax]"} for row in rows]
    single = build_report(make_results("trends", trends=make_table("trends", rows + one)))
    assert [row[1] for row in single.sections[0].rows] == ["flip_fraction", "stable_rank"]
    last = dict(zip(titles(single.sections[0]), single.sections[0].rows[1], strict=True))
    assert last["smoothed"] == FALLING[-1] * 1.05
    assert last["state"] == "critical"
    both = build_report(make_results("trends", trends=make_table("trends", one + other)))
    assert [row[1] for row in both.sections[0].rows] == [one[0]["metric"], other[0]["metric"]]


def test_trends_explain_what_is_insufficient_and_what_is_missing() -> None:
    rows = trends_rows(HEAD, FALLING, "insufficient")
    rows[0]["value"] = None
    report = build_report(make_results("trends", trends=make_table("trends", rows)))
    assert report.sections[0].footnotes == (
        "insufficient: fewer than 4 values, so there is no trend to judge",
        "a value that its table leaves undefined is a gap in the trend",
    )


def test_skipped_layers_are_one_row_a_reason_and_each_one_if_verbose(results: Results) -> None:
    (summary,) = find_section(build_report(results, shown=TABLES), "Left out").rows
    assert summary == ("ranks: 1-D", 12, "model.layers.0.input_layernorm.weight")
    every = find_section(build_report(results, verbose=True), "Left out").rows
    assert [row[0] for row in every][1:11:9] == [
        "model.layers.1.input_layernorm.weight",
        "model.layers.10.input_layernorm.weight",
    ]


def test_a_listing_shows_checkpoints_and_layers_and_only_columns_with_values() -> None:
    layers = [
        {"layer": f"h.{i}.w", "dtype": "BF16", "shape": [4, 5], "num_weights": 20} for i in (10, 2)
    ]
    usable = make_checkpoints().slice(0, 6).drop_columns(["loss"])
    checkpoints = make_table("checkpoints", usable.to_pylist())
    tables = {"checkpoints": checkpoints, "layers": make_table("layers", layers)}
    report = build_report(make_results("checkpoints", **tables))
    assert report.title == "ls"
    assert titles(report.sections[0]) == [
        *("step", "checkpoint", "layout", "scheme", "layers", "weights", "size"),
    ]
    assert [row[:3] for row in report.sections[1].rows] == [
        ("h.2.w", "BF16", (4, 5)),
        ("h.10.w", "BF16", (4, 5)),
    ]


def test_a_listing_says_how_layers_are_stored_where_one_is_not_plain() -> None:
    plain = {"layer": "a", "dtype": "BF16", "shape": [4], "num_weights": 4, "scheme": "plain"}
    coded = {**plain, "layer": "b", "scheme": "generic", "recognised_by": "I8 beside scale"}
    checkpoints = make_table("checkpoints", make_checkpoints().slice(0, 6).to_pylist())
    for layers, expected in (([plain], []), ([plain, coded], ["scheme", "recognised by"])):
        tables = {"checkpoints": checkpoints, "layers": make_table("layers", layers)}
        section = build_report(make_results("checkpoints", **tables)).sections[1]
        assert titles(section)[7:] == expected
        assert [row[7:] for row in section.rows] == [
            tuple(layer.get(name) for name in ("scheme", "recognised_by")[: len(expected)])
            for layer in layers
        ]


def test_a_listing_explains_the_checkpoints_that_cannot_be_used(results: Results) -> None:
    why = ("skipped, checkpoint-700: model-00002-of-00002.safetensors is not there yet",)
    listed = build_report(replace(results, subject="checkpoints"))
    assert find_section(listed, "Checkpoints").footnotes == why


def test_numbers_in_names_are_ordered_as_numbers() -> None:
    names = ["h.10.w", "h.2.w", "h.w", "h.02.w", "", "10", "²"]  # a superscript is no number
    assert sorted(names, key=natural_key)[:2] == ["", "10"]
    assert sorted(names[:2], key=natural_key) == ["h.2.w", "h.10.w"]
