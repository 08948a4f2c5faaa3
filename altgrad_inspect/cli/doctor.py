"""``altgrad-inspect doctor``: is everything here that the other commands need?"""

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from altgrad_inspect.cli import options
from altgrad_inspect.cli.output import show_report
from altgrad_inspect.cli.self_test import run_self_tests
from altgrad_inspect.cli.talk import ColorMode, OutputFormat, Talk, find_talk, write_stdout
from altgrad_inspect.errors import ExitCode

if TYPE_CHECKING:
    from altgrad_inspect.reports.model import Report

_PACKAGE: Final = "altgrad-inspect"
_NEEDED: Final = (
    *("torch", "numpy", "pandas", "pyarrow", "safetensors", "rich", "typer", "jaxtyping"),
)

Row = dict[str, Any]


def doctor(
    *,
    out: options.Out = options.DEFAULT_OUT,
    output_format: options.Format = OutputFormat.TABLE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    color: options.Color = ColorMode.AUTO,
) -> int:
    """Check versions, devices and directories, and run a self test.

    Exits with 3 if the self test fails: then no number of this installation can be trusted.
    """
    del output_format, quiet, verbose, color  # the callbacks of the options took them
    devices = list(_find_devices())
    sections: dict[str, list[Row]] = {
        "versions": list(_find_versions()),
        "extras": list(_find_extras()),
        "devices": devices,
        "directories": [_try_directory("out", out), _try_directory("temporary", _temporary())],
        "self_test": [
            {"test": one.test, "device": one.device, "status": one.status, "detail": one.detail}
            for device in devices
            for one in run_self_tests(device["device"])
        ],
    }
    passed = all(row["status"] == "ok" for row in sections["self_test"])
    _show({"passed": passed, **sections}, find_talk())
    return ExitCode.OK if passed else ExitCode.BUG


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _find_versions() -> Iterator[Row]:
    yield {"name": "python", "version": platform.python_version(), "status": "ok"}
    for package in (_PACKAGE, *_NEEDED):
        version = _find_version(package)
        yield {"name": package, "version": version, "status": "ok" if version else "missing"}


def _find_extras() -> Iterator[Row]:
    """Read from the package itself which extras it has, and what of them is installed."""
    try:
        about = metadata.metadata(_PACKAGE)
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return
    requirements = about.get_all("Requires-Dist") or []
    for extra in sorted(about.get_all("Provides-Extra") or []):
        marker = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
        packages = [
            re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
            for requirement in requirements
            if marker.search(requirement)
        ]
        missing = [package for package in packages if _find_version(package) is None]
        yield {
            "name": extra,
            "packages": ", ".join(packages),
            "missing": ", ".join(missing) or None,
            "status": "missing" if missing else "ok",
        }


def _find_devices() -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    name = platform.processor() or platform.machine()
    yield {"device": "cpu", "name": name, "cores": cores, "memory_bytes": memory}
    try:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        for index in range(count):
            about = torch.cuda.get_device_properties(index)
            yield {
                "device": f"cuda:{index}",
                "name": about.name,
                "cores": about.multi_processor_count,
                "memory_bytes": about.total_memory,
            }
    except (ImportError, OSError, RuntimeError):  # the self test says what is wrong with it
        return


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # not one that can be written to
        return Path("/tmp")  # noqa: S108  # named, not used


def _try_directory(purpose: str, directory: Path) -> Row:
    """Try to write into a directory, or where it would be made; nothing is left there."""
    nearest = directory.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"\n")
        reason = None
    except OSError as error:
        reason = error.strerror or str(error)
    status = "failed" if reason else "ok"
    return {"purpose": purpose, "path": str(directory), "status": status, "reason": reason}


def _show(document: dict[str, Any], talk: Talk) -> None:
    from altgrad_inspect.reports.plain_rows import dump_json, render_csv_rows

    flat = [
        {"section": name, **row}
        for name, rows in document.items()
        if isinstance(rows, list)
        for row in rows
    ]
    match talk.output_format:
        case OutputFormat.TABLE | OutputFormat.MD:
            show_report(_build_report(document), talk)
        case OutputFormat.JSON:
            write_stdout(f"{dump_json({'schema_version': 1, **document}, indent=1)}\n")
        case OutputFormat.JSONL:
            write_stdout("".join(f"{dump_json(row)}\n" for row in flat))
        case OutputFormat.CSV:
            columns = list(dict.fromkeys(name for row in flat for name in row))
            write_stdout(
                render_csv_rows(columns, [[row.get(name) for name in columns] for row in flat])
            )


def _build_report(document: dict[str, Any]) -> "Report":
    from altgrad_inspect.reports.model import Column, Fact, Kind, Report, Section

    kinds = {
        "status": Kind.LOOK,
        "cores": Kind.COUNT,
        "memory_bytes": Kind.BYTES,
        "path": Kind.TEXT,
        "detail": Kind.TEXT,
    }
    sections = []
    for name, rows in document.items():
        if not isinstance(rows, list) or not rows:
            continue
        columns = tuple(
            Column(title=title.removesuffix("_bytes"), kind=kinds.get(title, Kind.WORD))
            for title in rows[0]
        )
        cells = tuple(tuple(row.values()) for row in rows)
        title = name.replace("_", " ").capitalize()
        sections.append(Section(title=title, columns=columns, rows=cells))
    fact = Fact(label="self test", text="ok" if document["passed"] else "failed")
    return Report(title="doctor", run="", facts=(fact,), sections=tuple(sections))
