"""What a report says, before anybody decides how it looks.

    Report > Fact, Count, Gap, Attention > Case > Evidence, Section > Column, rows

Values stay raw (fractions, counts, names as stored); the renderers round, sanitise and
lay out. A new kind of result is a new `Section`, and no renderer has to change for it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import Final

Number = int | float
Series = tuple[Number | None, ...]
Value = str | Number | tuple[Number | None, ...] | None
"""A cell: text, a number, a series or a pair of numbers; None is undefined."""


class Kind(StrEnum):
    """How the values of a column are written for people."""

    TEXT = auto()  #: A name from a file: shortened where it has to be.
    WORD = auto()  #: A short word of ours: never shortened.
    LOOK = auto()  #: A status, state or severity: a word with a colour.
    COUNT = auto()  #: A whole number, with thousands separators.
    STEP = auto()  #: A training step, without separators.
    REAL = auto()  #: Three significant digits.
    EXACT = auto()  #: A constant: six significant digits.
    PERCENT = auto()  #: A fraction, written as a percentage.
    CHANGE = auto()  #: A relative change, written as a signed percentage.
    BYTES = auto()  #: A size in bytes.
    SECONDS = auto()  #: A duration in seconds.
    PAIR = auto()  #: First and last of a series of reals.
    SHAPE = auto()  #: Sizes of the dimensions of a tensor.
    SERIES = auto()  #: A line of bars, one a value.


LEFT_ALIGNED: Final = frozenset({Kind.TEXT, Kind.WORD, Kind.LOOK, Kind.SERIES, Kind.SHAPE})
"""Kinds that are aligned left; the others are numbers and aligned right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a section.

    Attributes:
        title: Its heading, one line.
        kind: How its values are written.
        weight: Where the terminal is too narrow, the columns of the smallest weight go
            first; a weight of ``ALWAYS`` stays.
        why_undefined: Where its value is undefined though its row is ``ok``; said
            beneath the table if that happens.
    """

    title: str
    kind: Kind
    weight: int = 50
    why_undefined: str = ""


ALWAYS: Final = 100
"""The weight of a column that is never left out."""

Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of a report.

    Attributes:
        title: Its heading.
        columns: Its columns.
        rows: One value a column, in the order to be shown.
        footnotes: One sentence each, beneath the table: what is undefined, and why.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()

    def explain_undefined(self, shown: Iterable[int]) -> tuple[str, ...]:
        """Say what ``-`` means in each of the columns ``shown`` that has one to explain."""
        return tuple(
            f"{column.title} is - {column.why_undefined}"
            for index in shown
            if (column := self.columns[index]).why_undefined
            and any(row[index] is None for row in self.rows)
        )

    def without_columns(self, hidden: Collection[str]) -> "Section":
        """Return the section without the columns of these titles."""
        keep = [i for i, column in enumerate(self.columns) if column.title not in hidden]
        return replace(
            self,
            columns=tuple(self.columns[index] for index in keep),
            rows=tuple(tuple(row[index] for index in keep) for row in self.rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about the run, e.g. ``quantizer: e4m3:tensor:amax``."""

    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many there are of something; ``look`` is the key of its colour in `style.LOOKS`."""

    label: str
    number: int
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that was not measured, and why.

    Attributes:
        look: ``skipped``, ``undefined`` or ``failed``.
        text: One sentence: how many of what, the reason, and where it stands.
        number: How many.
        subject: The table that is incomplete.
    """

    look: str
    text: str
    number: int
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One alert, or the verdict itself where no alert led to it.

    Attributes:
        severity: ``info``, ``warning`` or ``critical``.
        rule: The rule that raised it; the verdict if no rule did.
        message: One sentence with the numbers.
        step_onset: The first step of the values that led to it.
        matrix: Which matrix of a stack, else 0.
        metric: What the rule looked at, as the tables call it.
        series: The metric over the run; empty if the tables do not have it.
    """

    severity: str
    rule: str
    message: str
    step_onset: int | None
    matrix: int = 0
    metric: str = ""
    series: Series = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One layer with a fault: what decided it, and what else the rules say of it."""

    layer: str
    evidence: Evidence
    also: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A fault, and the layer or layers that have it.

    Attributes:
        word: The verdict; the rule where its layer has no verdict to say it.
        severity: ``info``, ``warning`` or ``critical``.
        cases: The layers; more than one if they became faulty in the same way.
        step_first: The earliest onset among them.
        step_last: The latest.
        num_since: Checkpoints after ``step_last``; None if that is no checkpoint.
        from_start: Whether ``step_first`` is the first checkpoint.
        look_at: What to look at next.
    """

    word: str
    severity: str
    cases: tuple[Case, ...]
    step_first: int | None
    step_last: int | None
    num_since: int | None
    from_start: bool
    look_at: str

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers; an empty one stands for the whole run."""
        return tuple(case.layer for case in self.cases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything one report says.

    Attributes:
        title: What it is a report of, e.g. ``flips``.
        run: The run, as the user named it.
        facts: What was looked at.
        notes: One sentence each about how the run was read.
        counts: How many layers have each verdict, worst first.
        gaps: What was not measured, and why.
        attention: The layers to look at, worst first.
        information: What is no fault but worth knowing: frozen layers, undecided ones.
        sections: The tables.
        has_alerts: Whether the rules ran at all: no alert is only then good news.
        is_undecided: Whether they could not say anything about any layer.
        hint: What else can be had, one line.
    """

    title: str
    run: str
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()
    gaps: tuple[Gap, ...] = ()
    attention: tuple[Attention, ...] = ()
    information: tuple[Attention, ...] = ()
    sections: tuple[Section, ...] = ()
    has_alerts: bool = False
    is_undecided: bool = False
    hint: str = ""
