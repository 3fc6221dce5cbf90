"""How work reports its progress: a callback, and progress bars on standard error that are one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]  # stage, done, total


def quiet(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def report_to(*reports: Progress) -> Progress:
    """Return a callback that calls each of several.

    Example:
        >>> report_to(print, print)("build", 1, 2)
        build 1 2
        build 1 2
    """

    def report(stage: str, done: int, total: int) -> None:
        for each in reports:
            each(stage, done, total)

    return report


@contextmanager
def progress_bars(messages: Console) -> Iterator[Progress]:
    """Make a progress callback that shows a bar for each stage; it shows nothing where the console is not a terminal.

    Example:
        >>> from rich.console import Console
        >>> with progress_bars(Console(stderr=True)) as report:
        ...     report("build", 1, 2)
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # they take a while
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.fields[rate]}"),
    )
    with Bars(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=messages, disable=not messages.is_terminal
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, rate="")
            speed = bars.tasks[bars.task_ids.index(tasks[stage])].speed
            rate = f"{speed:,.0f}/s" if speed and total > 1 else ""
            bars.update(tasks[stage], completed=done, total=total, rate=rate)

        yield report
