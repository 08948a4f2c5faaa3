"""Findings to blocks: what a layer has, what comes first, and what is said once for many."""

import pytest

from altgrad_inspect.records import Verdict
from altgrad_inspect.reports.advice import ADVICE, find_advice
from altgrad_inspect.reports.attention import build_attention
from altgrad_inspect.reports.cases import find_findings
from altgrad_inspect.reports.model import Attention, Case, Evidence
from altgrad_inspect.reports.wording import (
    render_also,
    render_course,
    render_layers,
    render_message,
    render_since,
    summarize_names,
)
from altgrad_inspect.tables.results import Results
from altgrad_inspect.trends.rules import RULES
from tests.reports.examples import (
    DEAD,
    FALLING,
    HEAD,
    alert_row,
    flips_row,
    make_checkpoints,
    make_every_verdict,
    make_table,
    trends_rows,
    verdict_row,
)


def attend(
    *verdicts: dict[str, object],
    alerts: tuple[dict[str, object], ...] = (),
    verbose: bool = False,
) -> tuple[tuple[Attention, ...], tuple[Attention, ...]]:
    tables = {
        "alerts": make_table("alerts", list(alerts)),
        "verdicts": make_table("verdicts", list(verdicts)),
        "checkpoints": make_checkpoints(),
    }
    return build_attention(tables, verbose=verbose)


def test_blocks_come_by_severity_then_verdict_then_onset_then_name() -> None:
    attention, _ = attend(
        verdict_row("z", "dead", "warning"),
        verdict_row("y.10", "collapsing", step_onset=500),
        verdict_row("y.2", "collapsing", step_onset=500),
        verdict_row("x", "collapsing", step_onset=400),
        verdict_row("w", "nonfinite", step_onset=600),
    )
    assert [block.layers for block in attention] == [("w",), ("x",), ("y.2",), ("y.10",), ("z",)]


def test_a_layer_without_a_verdict_has_the_word_of_its_worst_rule() -> None:
    alerts = (
        alert_row("a", "warning", "flips-fading", step_onset=100),
        alert_row("a", "critical", "rank-break", step_onset=400),
        alert_row("b", "info", "rank-drop"),
    )
    attention, information = attend(alerts=alerts)
    (block,) = attention
    assert (block.word, block.severity, block.layers) == ("rank-break", "critical", ("a",))
    assert [one.rule for one in block.cases[0].also] == ["flips-fading"]
    assert information == ()
    assert [one.word for one in attend(alerts=alerts, verbose=True)[1]] == ["rank-drop"]


def test_an_alert_is_not_hidden_by_a_verdict_that_names_no_fault() -> None:
    alerts = (alert_row("a", "warning", "rank-early"), alert_row("b", "warning", "rank-early"))
    attention, _ = attend(
        verdict_row("a", "healthy", "info", step_onset=None),
        verdict_row("b", "frozen", "info"),
        alerts=alerts,
    )
    assert [(block.word, block.layers) for block in attention] == [
        ("rank-early", ("a",)),
        ("rank-early", ("b",)),
    ]


def test_the_alert_that_decided_brings_its_metric_and_is_not_told_twice() -> None:
    told = alert_row("a", "critical", "rank-drop", message="It fell.", metric="stable_rank")
    other = alert_row("a", "critical", "rank-break", message="It broke.", metric="effective_rank")
    verdict = verdict_row("a", "collapsing", evidence="It fell; it recovered at step 500.")
    ((block,), _) = attend(verdict, alerts=(other, told))
    (case,) = block.cases
    assert case.evidence.metric == "stable_rank"
    assert case.evidence.message == "It fell; it recovered at step 500."
    assert [one.message for one in case.also] == ["It broke."]


@pytest.mark.parametrize(("number", "blocks"), [(1, 1), (3, 3), (4, 1), (300, 1)])
def test_many_layers_with_one_fault_since_one_step_are_one_block(number: int, blocks: int) -> None:
    rows = [verdict_row(f"h.{index}.w", "collapsing") for index in range(number)]
    attention, _ = attend(*rows)
    assert len(attention) == blocks
    assert sum(len(block.cases) for block in attention) == number
    assert attention[0].cases[0].layer == "h.0.w"
    assert len(attend(*rows, verbose=True)[0]) == number


def test_layers_with_one_fault_since_many_steps_are_one_block_if_they_are_many() -> None:
    rows = [
        verdict_row(f"h.{index}.w", "collapsing", step_onset=100 * (index % 6 + 1))
        for index in range(9)
    ]
    assert len(attend(*rows[:8])[0]) == 8
    (block,) = attend(*rows)[0]
    assert (block.step_first, block.step_last) == (100, 600)
    assert render_since(block) == "since steps 100 to 600"


def test_different_faults_are_never_one_block() -> None:
    rows = [
        verdict_row(f"h.{index}.w", "collapsing" if index % 2 else "dead") for index in range(20)
    ]
    assert [(block.word, len(block.cases)) for block in attend(*rows)[0]] == [
        ("dead", 10),
        ("collapsing", 10),
    ]


@pytest.mark.parametrize(
    ("onset", "text"),
    [
        (100, "since step 100, from the start"),
        (300, "since step 300, 3 checkpoints ago"),
        (500, "since step 500, 1 checkpoint ago"),
        (600, "since step 600, the last checkpoint"),
        (350, "since step 350"),
        (700, "since step 700"),
        (None, ""),
    ],
)
def test_since_when_is_said_in_steps_and_usable_checkpoints(onset: int | None, text: str) -> None:
    ((block,), _) = attend(verdict_row("a", "dead", step_onset=onset))
    assert render_since(block) == text


def test_frozen_and_undecided_layers_are_worth_knowing_and_healthy_ones_are_not() -> None:
    attention, information = attend(
        *(verdict_row(f"h.{i}.w", "frozen", "info", step_onset=100) for i in range(5)),
        verdict_row("u", "undecided", "info", step_onset=None),
        verdict_row("ok", "healthy", "info", step_onset=None),
    )
    assert attention == ()
    assert [(one.word, len(one.cases)) for one in information] == [("frozen", 5), ("undecided", 1)]


def test_the_worst_layer_comes_with_its_metrics_over_the_run(results: Results) -> None:
    dead, head, _ = find_findings(results.tables)[:3]
    assert (dead.case.layer, dead.word) == (DEAD, "dead-layer")
    assert dead.case.evidence.series[-1] is None  # from flips, at the step that failed
    assert (head.case.layer, head.word) == (HEAD, "rank-drop")
    assert head.case.evidence.series == tuple(FALLING)
    assert [one.rule for one in head.case.also] == ["flips-fading"]
    assert head.case.also[0].series[-1] == 3 / 65_536  # from flips: trends has it not


def test_the_series_of_an_alert_is_that_of_its_own_matrix() -> None:
    rows = [{**row, "matrix": 1, "value": 7.0} for row in trends_rows(HEAD, FALLING, "ok")]
    tables = {
        "alerts": make_table("alerts", [alert_row(HEAD, "warning", "r", matrix=1)]),
        "trends": make_table("trends", trends_rows(HEAD, FALLING, "ok") + rows),
    }
    (finding,) = find_findings(tables)
    assert finding.case.evidence.series == (7.0,) * 6
    assert finding.case.evidence.matrix == 1


@pytest.mark.parametrize(
    ("metric", "series"),
    [
        ("num_flipped", (6, 6)),
        ("num_flipped[e4m3]", (6, 6)),
        ("num_flipped[int8]", (60, 60)),
        ("num_flipped[other]", ()),
        ("no_such_column", ()),
    ],
)
def test_an_alert_on_flips_draws_its_quantizer(metric: str, series: tuple[int, ...]) -> None:
    rows = [
        flips_row("a", index, flipped, quantizer=quantizer)
        for quantizer, flipped in (("e4m3", 6), ("int8", 60))
        for index in range(2)
    ]
    tables = {
        "alerts": make_table("alerts", [alert_row("a", "warning", "r", metric=metric)]),
        "flips": make_table("flips", rows),
    }
    assert find_findings(tables)[0].case.evidence.series == series


def test_names_are_summed_up_by_their_numbers() -> None:
    names = [f"model.layers.{i}.mlp.{part}" for i in range(12) for part in ("up", "down")][:-1]
    assert summarize_names([*names, "lm_head.w2", "h1.w"]) == [
        ("model.layers.*.mlp.up", 12),
        ("model.layers.*.mlp.down", 11),
        ("lm_head.w2", 1),
        ("h1.w", 1),
    ]


def test_up_to_three_layers_are_named_and_more_are_summed_up() -> None:
    blocks, _ = attend(*(verdict_row(f"h.{i}.w", "dead") for i in range(4)))
    assert render_layers(blocks[0]) == "4 \N{MULTIPLICATION SIGN} h.*.w"
    (block,) = attend(*(verdict_row(name, "dead") for name in "abcde"))[0]
    assert render_layers(block) == "a, b, c, and 2 more"


@pytest.mark.parametrize(
    ("layer", "message", "shown"),
    [
        ("lm_head.weight", "The rank of lm_head.weight fell.", "The rank of this layer fell."),
        ("lm_head.weight", "lm_head.weight is zero.", "This layer is zero."),
        ("lm_head.weight", "lm_head.weight[3] fell.", "This layer[3] fell."),
        ("lm_head.weight", "my.lm_head.weight fell.", "My.lm_head.weight fell."),
        ("lm_head.weight", "Of lm_head.weights.", "Of lm_head.weights."),
        ("weight", "Its weight grew.", "Its weight grew."),
        ("embeddings", "its embeddings grew.", "its embeddings grew."),
        ("h.0.w", "h.0.w fell.", "h.0.w fell."),
        ("a.b.c\n.weight", "a.b.c\n.weight fell.", "This layer fell."),
    ],
)
def test_a_long_name_is_not_repeated(layer: str, message: str, shown: str) -> None:
    evidence = Evidence(severity="info", rule="r", message=message, step_onset=None)
    assert render_message(evidence, layer) == shown


@pytest.mark.parametrize(
    ("metric", "series", "text"),
    [
        ("stable_rank", (43.9, None, 1.21), "stable rank 43.9 \u2192 1.21"),
        ("flip_fraction[e4m3:tensor:amax]", (0.5, 0.0), "flip fraction 50.0% \u2192 0%"),
        ("num_nonfinite", (0, 1234), "NaN or Inf 0 \u2192 1,234"),
        ("frobenius_norm", (4.14, None), "norm 4.14 \u2192 -"),
        ("stable_rank", (), "stable rank"),
    ],
)
def test_the_course_of_a_metric_has_its_ends(
    metric: str, series: tuple[float | None, ...], text: str
) -> None:
    evidence = Evidence(
        severity="info", rule="r", message="", step_onset=1, metric=metric, series=series
    )
    assert render_course(evidence) == text


def test_other_alerts_are_named_with_each_metric_once() -> None:
    def alert(rule: str, metric: str, step: int) -> Evidence:
        return Evidence(
            severity="info",
            rule=rule,
            message="",
            step_onset=step,
            metric=metric,
            series=(32.5, 26.2),
        )

    case = Case(
        layer="a",
        evidence=alert("rank-drop", "stable_rank", 875),
        also=(
            alert("rank-early", "effective_rank", 875),
            alert("rank-slide", "stable_rank", 625),
            alert("rank-break", "stable_rank", 900),
            alert("rank-slide", "effective_rank", 1500),
        ),
    )
    assert render_also(case) == (
        "rank-slide since step 625, rank-break since step 900; effective rank 32.5 \u2192 26.2: "
        "rank-early since step 875, rank-slide since step 1500"
    )


def test_a_matrix_of_a_stack_is_named() -> None:
    evidence = Evidence(
        severity="info", rule="r", message="", step_onset=1, matrix=3, metric="m", series=(1.0,)
    )
    assert render_course(evidence) == "m of matrix 3 1.00"


def test_there_is_advice_for_every_verdict_and_every_rule() -> None:
    assert set(Verdict) <= ADVICE.keys()
    otherwise = find_advice("no such word")
    for rule in RULES:
        name = str(vars(__import__(rule.__module__, fromlist=["RULE"]))["RULE"])
        assert find_advice(name) not in {"", otherwise}
    for word, advice in ADVICE.items():
        assert bool(advice) == (word != Verdict.HEALTHY)
        assert len(advice) <= 120


def test_every_block_holds_a_case() -> None:
    attention, information = build_attention(make_every_verdict().tables, verbose=False)
    assert all(isinstance(case, Case) for block in attention for case in block.cases)
    assert len(attention) == 8
    assert len(information) == 2
