"""From results to stdout and files: one path for every command."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from altgrad_inspect.cli.talk import OutputFormat, Talk, describe_files, write_stdout
from altgrad_inspect.errors import ExitCode

if TYPE_CHECKING:
    from altgrad_inspect.reports.model import Report
    from altgrad_inspect.tables.results import Results


HINT: Final = "more: --tables verdicts,flips,ranks,trends prints tables, -v every row"


def show_results(results: "Results", talk: Talk) -> None:
    """Write ``results`` to stdout in the format that was asked for; notes to stderr.

    The formats for people carry the notes themselves.
    """
    match talk.output_format:
        case OutputFormat.TABLE | OutputFormat.MD:
            from altgrad_inspect.reports.build import build_report

            is_asked = talk.is_verbose or talk.shown is not None
            report = build_report(
                results,
                verbose=talk.is_verbose,
                shown=talk.shown,
                hint=HINT if results.subject == "report" and not is_asked else "",
            )
            show_report(report, talk)
        case OutputFormat.JSON | OutputFormat.JSONL:
            from altgrad_inspect.reports.render_json import render_json, render_jsonl

            say_notes(results, talk)
            is_document = talk.output_format is OutputFormat.JSON
            write_stdout(render_json(results) if is_document else render_jsonl(results))
        case OutputFormat.CSV:
            from altgrad_inspect.reports.render_csv import render_csv

            say_notes(results, talk)
            write_stdout(render_csv(results))


def show_report(report: "Report", talk: Talk) -> None:
    """Write a report to stdout, as Markdown if asked for, else as lines."""
    if talk.output_format is OutputFormat.MD:
        from altgrad_inspect.reports.render_markdown import render_markdown

        write_stdout(render_markdown(report))
        return
    from altgrad_inspect.reports.render_terminal import render_terminal

    write_stdout(render_terminal(report, talk.build_page()))


def check_out(out: Path) -> None:
    """Find out before the work whether the results can be written.

    Raises:
        OutputError: They cannot.
    """
    from altgrad_inspect.tables.store import check_writable

    check_writable(out)


def deliver(results: "Results", out: Path, talk: Talk, *, with_json: bool = False) -> int:
    """Write the tables (and ``report.json`` if ``with_json``), show the results.

    Returns:
        The exit status: incomplete if any row failed.
    """
    paths = write_results(results, out, with_json=with_json)
    show_results(results, talk)
    talk.say(describe_files(paths))
    return find_status(results)


def write_results(results: "Results", out: Path, *, with_json: bool = False) -> list[Path]:
    """Write the tables, and ``report.json`` if ``with_json``; return the files."""
    paths = results.write(out)
    if with_json:
        from altgrad_inspect.reports.render_json import render_json
        from altgrad_inspect.tables.store import write_text

        paths.append(write_text(out / "report.json", render_json(results)))
    return paths


def find_status(results: "Results") -> int:
    """Return the exit status of finished work: incomplete if any row failed."""
    return ExitCode.INCOMPLETE if results.num_failed else ExitCode.OK


def say_notes(results: "Results", talk: Talk) -> None:
    """Write how the run was read to stderr."""
    for note in results.notes:
        talk.say(f"note: {note}")
