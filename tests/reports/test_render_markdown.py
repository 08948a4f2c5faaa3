"""Reports as Markdown: a document whose names are names and nothing else."""

import re
from collections.abc import Callable

import pytest

from altgrad_inspect.reports.build import build_report
from altgrad_inspect.reports.cells import TIMES
from altgrad_inspect.reports.render_markdown import escape_markdown, render_code, render_markdown
from altgrad_inspect.tables.results import Results
from tests.reports.examples import (
    alert_row,
    flips_row,
    make_every_verdict,
    make_results,
    make_table,
)
from tests.reports.hostile import HOSTILE

OUR_TAGS = re.compile(r"(?m)^<details>$|^</details>$|^<summary>|</summary>$")
CELL_END = re.compile(r"(?<!\\)\|")


def test_the_document_looks_like_its_golden_file(
    results: Results, assert_golden: Callable[[str, str], None]
) -> None:
    assert_golden("report.md", render_markdown(build_report(results, shown=("flips", "ranks"))))


def test_a_fault_of_many_layers_is_one_item_and_tables_are_only_on_request() -> None:
    text = render_markdown(build_report(make_every_verdict()))
    assert f"101 layers: 100 {TIMES} model.layers.&#42;.mlp.down_proj.weight" in text
    assert text.count("**collapsing**") == 1
    assert "<details>" not in text
    assert len(text) < 10_000


def test_a_table_is_folded_away_with_the_blank_lines_that_markdown_needs() -> None:
    text = render_markdown(build_report(make_every_verdict(), shown=("verdicts",)))
    head, _, rest = text.partition("<details>\n<summary>Verdicts (111 rows)</summary>\n\n| layer")
    assert head.endswith("\n\n")
    assert rest.endswith("evidence of each\n\n</details>\n")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_stays_in_its_cell(name: str) -> None:
    results = make_results(
        flips=make_table("flips", [flips_row(name, 0, 5, status="failed", reason=name)]),
        alerts=make_table("alerts", [alert_row(name, "critical", name)]),
    )
    text = render_markdown(build_report(results, verbose=True))
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    outside = OUR_TAGS.sub("", re.sub(r"(`+)( ?).+?\2\1(?!`)", "", text))
    assert "<" not in outside  # of code: no HTML but the folds
    table = [line for line in lines if line.startswith("|")]
    num_cells = [len(CELL_END.findall(line)) for line in table]
    assert num_cells[:3] == [num_cells[0]] * 3  # heading, rule, row


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain words, 1.5 and a-b_c", "plain words, 1.5 and a-b_c"),
        ("_emphasis_ a_b", "&#95;emphasis&#95; a_b"),
        ("**b** <i>", "&#42;&#42;b&#42;&#42; &#60;i&#62;"),
        ("[x](y)", "&#91;x&#93;(y)"),
        ("http://a www.b", "http&#58;//a www&#46;b"),
        ("at 5: fine", "at 5: fine"),
        ("@team", "@&#8203;team"),
        ("- item", "&#45; item"),
        ("1. item", "&#49;. item"),
        ("a&amp;|b`c\\", "a&#38;amp;&#124;b&#96;c&#92;"),
        ("#12", "&#35;12"),
    ],
)
def test_markup_is_escaped_and_words_stay_legible(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("lm_head.weight", "`lm_head.weight`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        ("a|b", "a&#124;b"),
        ("<b>", "`<b>`"),
        ("a\nb", "`a\\nb`"),
        ("", ""),
    ],
)
def test_a_name_is_a_code_span_that_it_cannot_close(name: str, code: str) -> None:
    assert render_code(name) == code
