"""The report as lines: fixed inputs against golden files, and what no input may break."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len

from altgrad_inspect.reports.build import build_report
from altgrad_inspect.reports.model import ALWAYS, Column, Kind, Report, Section
from altgrad_inspect.reports.render_terminal import Page, render_terminal
from altgrad_inspect.tables.results import Results
from tests.reports.examples import (
    alert_row,
    flips_row,
    make_every_verdict,
    make_healthy,
    make_results,
    make_table,
    ranks_row,
    verdict_row,
)
from tests.reports.hostile import HOSTILE

Check = Callable[[str, str], None]
SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")
HINT = "more: --tables prints tables"
BOX = re.compile("[\u2500-\u257f]")


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("verbose", [False, True])
def test_the_report_looks_like_its_golden_file(
    results: Results, assert_golden: Check, width: int, *, verbose: bool
) -> None:
    text = render_terminal(build_report(results, verbose=verbose), Page(width=width))
    assert_golden(f"report_{'verbose_' if verbose else ''}{width}.txt", text)
    assert all(cell_len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("kind", ["healthy", "every_verdict", "hostile"])
def test_a_first_screen_looks_like_its_golden_file(
    assert_golden: Check, width: int, kind: str
) -> None:
    make = {
        "healthy": make_healthy,
        "every_verdict": make_every_verdict,
        "hostile": make_hostile,
    }[kind]
    text = render_terminal(build_report(make(), hint=HINT), Page(width=width))
    assert_golden(f"{kind}_{width}.txt", text)
    assert all(cell_len(line) <= width for line in text.splitlines())


def test_a_healthy_run_is_one_screen() -> None:
    text = render_terminal(build_report(make_healthy(), hint=HINT), Page(width=80))
    assert len(text.splitlines()) <= 24


def make_hostile() -> Results:
    """Return a run all of whose names try to be obeyed, one a verdict, some in a group."""
    names = [name for key, name in HOSTILE.items() if key != "very_long"]
    verdicts = [
        verdict_row(name, "dead" if index % 2 else "collapsing", evidence=f"{name} is bad.")
        for index, name in enumerate(names)
    ]
    alerts = [alert_row(name, "warning", "rank-drop", message=f"{name} fell.") for name in names]
    return replace(
        make_results(
            flips=make_table("flips", [flips_row(name, 0, 5) for name in names]),
            alerts=make_table("alerts", alerts),
            verdicts=make_table("verdicts", verdicts),
        ),
        run=HOSTILE["escape"],
    )


def test_the_same_advice_is_given_once() -> None:
    rows = [verdict_row(name, "dead", step_onset=step) for name, step in (("a", 100), ("b", 200))]
    tables = {"alerts": make_table("alerts", []), "verdicts": make_table("verdicts", rows)}
    assert render_terminal(build_report(make_results("report", **tables))).count("look at:") == 1


def test_undecided_layers_are_no_good_news_and_say_why() -> None:
    why = "Only 2 checkpoints of model.a.weight could be measured, 4 are needed."
    rows = [
        verdict_row(f"model.{name}.weight", "undecided", "info", step_onset=None, evidence=why)
        for name in "abcde"
    ]
    tables = {"alerts": make_table("alerts", []), "verdicts": make_table("verdicts", rows)}
    text = render_terminal(build_report(make_results("report", **tables)))
    assert "? too early to say: every layer is undecided" in text
    assert "no layer needs attention" not in text
    assert (
        "? undecided  5 layers: model.a.weight, model.b.weight, model.c.weight, and 2 more. "
        "For example: Only 2 checkpoints of this layer could be measured, 4 are needed." in text
    )


def test_sentences_are_broken_to_the_width_and_indented() -> None:
    rows = [verdict_row("model.a.weight", "dead", evidence="Word " * 60)]
    tables = {"alerts": make_table("alerts", []), "verdicts": make_table("verdicts", rows)}
    report = build_report(make_results("report", **tables))
    lines = [
        line for line in render_terminal(report, Page(width=60)).splitlines() if "Word" in line
    ]
    assert len(lines) > 4
    assert all(line.startswith("    Word") and len(line) <= 60 for line in lines)
    wide = render_terminal(report, Page(width=300)).splitlines()
    assert max(map(len, wide)) <= 120
    assert any(len(line) > 300 for line in render_terminal(report).splitlines())


def test_a_piped_report_looks_like_its_golden_file(results: Results, assert_golden: Check) -> None:
    text = render_terminal(build_report(results, shown=("flips", "ranks"), hint=HINT))
    assert_golden("report_piped.txt", text)
    assert "…" not in text
    assert not BOX.search(text)
    assert "\x1b" not in text


@pytest.mark.parametrize("subject", ["flips", "ranks", "trends"])
def test_each_command_has_its_own_report(
    results: Results, assert_golden: Check, subject: str
) -> None:
    kept = {
        "flips": ("checkpoints", "flips", "skipped"),
        "ranks": ("checkpoints", "ranks", "skipped"),
        "trends": tuple(results.tables),
    }[subject]
    part = replace(results, subject=subject, tables={n: results.tables[n] for n in kept})
    assert_golden(f"{subject}_80.txt", render_terminal(build_report(part), Page(width=80)))


def test_colours_change_nothing_but_colours(results: Results) -> None:
    report = build_report(results, verbose=True)
    for width in (80, 160, None):
        plain = render_terminal(report, Page(width=width))
        coloured = render_terminal(report, Page(width=width, color=True))
        assert SEQUENCE.search(coloured)
        stripped = "\n".join(line.rstrip() for line in SEQUENCE.sub("", coloured).split("\n"))
        assert stripped == plain


def test_an_ascii_page_holds_only_ascii(results: Results) -> None:
    report = build_report(results, verbose=True)
    text = render_terminal(report, Page(ascii_only=True))
    assert text.isascii()
    assert len(text) == len(render_terminal(report))


@pytest.mark.parametrize("width", range(20, 200, 9))
def test_no_table_line_is_wider_than_the_terminal(results: Results, width: int) -> None:
    text = render_terminal(build_report(results, verbose=True), Page(width=max(width, 56)))
    assert max(cell_len(line) for line in text.splitlines()) <= max(width, 56)
    render_terminal(build_report(results, verbose=True), Page(width=width))  # never an error


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("width", [80, None])
def test_a_hostile_name_is_one_printable_line(name: str, width: int | None) -> None:
    hostile = make_results(
        flips=make_table("flips", [flips_row(name, 0, 5, status="failed", reason=name)]),
        ranks=make_table("ranks", [ranks_row(name, 100, None, reason=name)]),
        alerts=make_table("alerts", [alert_row(name, "critical", name)]),
        skipped=make_table(
            "skipped", [{"layer": name, "shape": [1], "dtype": name, "reason": name}]
        ),
    )
    named = replace(hostile, run=name, notes=(name,))
    benign = replace(hostile, run="x", notes=("x",))
    for results in (named, benign):
        text = render_terminal(build_report(results, verbose=True), Page(width=width))
        assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) > 10


def test_piped_names_are_whole() -> None:
    name = HOSTILE["very_long"]
    results = make_results("flips", flips=make_table("flips", [flips_row(name, 0, 5)]))
    text = render_terminal(build_report(results))
    assert name in text


def test_good_news_is_said_only_if_the_rules_ran() -> None:
    quiet = make_results(alerts=make_table("alerts", []))
    assert "✔ no layer needs attention" in render_terminal(build_report(quiet))
    assert "attention" not in render_terminal(
        build_report(make_results("flips", flips=make_table("flips", [])))
    )


def test_an_empty_table_says_so() -> None:
    text = render_terminal(build_report(make_results("flips", flips=make_table("flips", []))))
    assert "Flips per layer\n  nothing to show\n" in text


def test_the_least_telling_columns_go_first_and_are_named() -> None:
    columns = (
        Column(title="name", kind=Kind.TEXT, weight=ALWAYS),
        Column(title="dispensable", kind=Kind.WORD, weight=1),
        Column(title="useful", kind=Kind.WORD, weight=2),
    )
    section = Section(title="T", columns=columns, rows=(("n", "d" * 20, "u" * 20),))
    report = Report(title="t", run="r", sections=(section,))
    text = render_terminal(report, Page(width=40))
    assert "u" * 20 in text
    assert "d" * 20 not in text
    assert "no room for dispensable" in text


def test_a_column_that_is_not_shown_is_not_explained() -> None:
    columns = (
        Column(title="name", kind=Kind.TEXT, weight=ALWAYS),
        Column(title="gone", kind=Kind.WORD, weight=1, why_undefined="where it is gone"),
        Column(title="wide", kind=Kind.WORD, weight=2),
    )
    section = Section(title="T", columns=columns, rows=(("n", None, "w" * 22),))
    report = Report(title="t", run="r", sections=(section,))
    assert "gone is - where it is gone" in render_terminal(report, Page(width=80))
    assert "where it is gone" not in render_terminal(report, Page(width=30))


def test_an_alert_about_the_run_names_no_layer() -> None:
    alerts = make_table("alerts", [alert_row("", "critical", "rank-break")])
    assert "✖ rank-break  the whole run\n" in render_terminal(
        build_report(make_results(alerts=alerts))
    )
