"""How far the work is, on stderr: a bar on a terminal, a line per 10 % under ``-v`` else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from altgrad_inspect.cli.talk import Talk

if TYPE_CHECKING:
    from altgrad_inspect.engine.events import Event, Listener


def show_progress(talk: Talk) -> "AbstractContextManager[Listener]":
    """Return a context in which the listener it gives shows the progress of a run."""
    if talk.quiet:
        return nullcontext(_listen_to_nothing)
    if sys.stderr.isatty():
        return _show_bar()
    return nullcontext(LineProgress(say=talk.say) if talk.is_verbose else _listen_to_nothing)


def _listen_to_nothing(_event: "Event") -> None:
    """Stay silent."""


@dataclass(slots=True, kw_only=True)
class LineProgress:
    """A line whenever another tenth of the work is done, for logs."""

    say: Callable[[str], None]
    num_layers: int = field(default=0, init=False)
    num_done: int = field(default=0, init=False)
    share: float = field(default=0.0, init=False)
    tenths_said: int = field(default=0, init=False)

    def __call__(self, event: "Event") -> None:
        """Take note of an event."""
        from altgrad_inspect.engine.events import LayerDone, Planned

        match event:
            case Planned():
                self.num_layers = event.num_layers
            case LayerDone():
                self.num_done += 1
                self.share += event.cost
                self._say_tenths()
            case _:
                return

    def _say_tenths(self) -> None:
        tenths = int(self.share * 10 + 1e-6)
        if tenths > self.tenths_said:
            self.tenths_said = tenths
            self.say(f"{tenths * 10} %: {self.num_done:,} of {self.num_layers:,} layers done")


@contextmanager
def _show_bar() -> "Iterator[Listener]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as RemainingColumn

    from altgrad_inspect.engine.events import LayerDone, Planned

    columns = (
        TextColumn("{task.fields[done]}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        RemainingColumn(),
    )
    num_layers = num_done = num_bytes = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, done="reading headers", rate="")

        def listen(event: "Event") -> None:
            nonlocal num_layers, num_done, num_bytes
            match event:
                case Planned():
                    num_layers = event.num_layers
                    done = f"0/{num_layers:,} layers"
                    progress.reset(task, total=1.0, done=done, rate="")
                case LayerDone():
                    num_done += 1
                    num_bytes += event.num_bytes
                    progress.update(
                        task,
                        advance=event.cost,
                        done=f"{num_done:,}/{num_layers:,} layers",
                        rate=_describe_rate(num_bytes, progress.tasks[0].elapsed),
                    )
                case _:
                    return

        yield listen


def _describe_rate(num_bytes: int, seconds: float | None) -> str:
    from altgrad_inspect.reports.cells import render_bytes

    return f"{render_bytes(num_bytes / seconds)}/s" if seconds else ""
