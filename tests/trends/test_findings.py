"""Which alerts and verdicts are findings."""

import pyarrow as pa
import pytest

from altgrad_inspect.errors import ConfigError
from altgrad_inspect.records import Severity, Verdict
from altgrad_inspect.tables.schema import ALERTS, VERDICTS
from altgrad_inspect.trends.findings import RULE_NAMES, find_findings, require_rules
from altgrad_inspect.trends.rules import RULES


def make_alerts(*rows: tuple[str, str, str, int]) -> pa.Table:
    full = [
        {
            **dict.fromkeys(ALERTS.arrow.names),
            "fingerprint": "f",
            "metric": "stable_rank",
            "matrix": 0,
            "message": "m",
            "rule": rule,
            "severity": severity,
            "layer": layer,
            "step_onset": onset,
        }
        for rule, severity, layer, onset in rows
    ]
    return pa.Table.from_pylist(full, schema=ALERTS.arrow)


def make_verdicts(*rows: tuple[str, str, str, int | None]) -> pa.Table:
    names = ("layer", "verdict", "severity", "step_onset")
    full = [{**dict(zip(names, row, strict=True)), "evidence": f"because {row[1]}"} for row in rows]
    return pa.Table.from_pylist(full, schema=VERDICTS.arrow)


ALERT_ROWS = make_alerts(
    ("rank-drop", "warning", "b", 20),
    ("rank-drop", "critical", "a", 30),
    ("frozen", "info", "c", 10),
    ("oscillation", "warning", "a", 10),
)
VERDICT_ROWS = make_verdicts(
    ("a", "collapsing", "critical", 30),
    ("b", "healthy", "info", None),
    ("c", "frozen", "warning", 10),
    ("d", "stalling", "warning", None),
    ("e", "undecided", "critical", None),
)


def name_findings(**options: object) -> list[tuple[str, str]]:
    table = find_findings(ALERT_ROWS, VERDICT_ROWS, **options)  # type: ignore[arg-type]
    assert table.schema.equals(ALERTS.arrow)
    return [(str(row["rule"]), str(row["layer"])) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (
            {},
            "rank-drop a, oscillation a, frozen c, rank-drop b, stalling d",
        ),
        ({"fail_on": Severity.CRITICAL}, "rank-drop a"),
        (
            {"fail_on": Severity.INFO},
            "rank-drop a, oscillation a, rank-drop b, stalling d, frozen c",
        ),
        ({"rule": ["rank-drop"]}, "rank-drop a, rank-drop b"),
        ({"rule": ["stalling", "rank-drop"], "ignore": ["rank-drop"]}, "stalling d"),
        ({"rule": ["collapsing"]}, "collapsing a"),
        ({"ignore": ["rank-drop"]}, "oscillation a, frozen c, stalling d"),
        ({"ignore": ["rank-drop", "oscillation", "frozen", "stalling"]}, ""),
    ],
)
def test_findings_are_severe_and_worst_first(options: dict[str, object], found: str) -> None:
    expected = [tuple(pair.split(" ")) for pair in found.split(", ") if pair]
    assert name_findings(**options) == expected


def test_ignoring_an_alert_does_not_bring_back_its_verdict() -> None:
    alerts = make_alerts(("rank-drop", "critical", "a", 1))
    verdicts = make_verdicts(("a", "collapsing", "critical", 1))
    assert find_findings(alerts, verdicts, ignore=["rank-drop"]).num_rows == 0


def test_a_rule_and_a_verdict_of_the_same_name_are_one_finding() -> None:
    alerts = make_alerts(("bit-stalled", "critical", "a", 1))
    verdicts = make_verdicts(("a", "bit-stalled", "critical", 1))
    (row,) = find_findings(alerts, verdicts, rule=["bit-stalled"]).to_pylist()
    assert row["metric"] == "stable_rank"


def test_a_verdict_is_a_finding_with_its_evidence_and_a_stable_name() -> None:
    (row,) = find_findings(make_alerts(), make_verdicts(("d", "dead", "warning", 5))).to_pylist()
    again = find_findings(make_alerts(), make_verdicts(("d", "dead", "critical", 9))).to_pylist()
    assert (row["message"], row["step_onset"], row["matrix"]) == ("because dead", 5, 0)
    assert (row["metric"], row["value"], row["step_detected"]) == ("verdict", None, None)
    assert again[0]["fingerprint"] == row["fingerprint"] != ""


def test_every_rule_and_every_bad_verdict_has_a_name() -> None:
    assert len(RULES) >= 9
    assert {"rank-drop", "bit-stalled", "frozen", "scale-jump"} <= set(RULE_NAMES)
    assert set(map(str, Verdict)) - set(RULE_NAMES) == {"healthy", "undecided"}
    require_rules(RULE_NAMES)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rank-dorp", "rule rank-dorp: is not known, expected one like rank-drop "),
        ("zzzz", "rule zzzz: is not known, expected one of bit-stalled, "),
        ("healthy", "rule healthy: is not known"),
        ("a\nb", r"rule a\\nb: is not known"),
    ],
)
def test_an_unknown_rule_is_an_error_with_the_closest(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        find_findings(ALERT_ROWS, VERDICT_ROWS, rule=[name])
    with pytest.raises(ConfigError, match=f"^{said}"):
        find_findings(ALERT_ROWS, VERDICT_ROWS, ignore=["frozen", name])
