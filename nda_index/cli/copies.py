"""The commands of copies: push and pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.markup import escape

from nda_index.cli.output import Json, console, messages, print_json
from nda_index.errors import WAITING, ConfigError
from nda_index.progress import progress_bars

if TYPE_CHECKING:
    from nda_index.copies.summary import CopySummary

ADDRESS = "s3://BUCKET/PATH, gs://BUCKET/PATH, abfss://..., file:///PATH, or a folder"


def push_command(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    url: Annotated[str, typer.Argument(help=f"Where the copy is to lie: {ADDRESS}.")],
    as_json: Json = False,
) -> None:
    """Bring a copy of an index in an object store up to date: only new files travel, and old ones are deleted there.

    Examples:

      nda-index push photos.nda s3://company/indexes/photos.nda

      nda-index push photos.nda 's3://indexes/photos.nda?endpoint_override=minio:9000&scheme=http'
    """
    from nda_index.copies.push import push_index

    with progress_bars(messages) as report:
        summary = push_index(index, url, progress=report)
    _print_copy(summary, index, "Pushed", f"{summary.deleted:,} old files deleted there", as_json)


def pull_command(
    url: Annotated[str, typer.Argument(help=f"Where the index lies: {ADDRESS}.")],
    index: Annotated[Path, typer.Argument(help="Folder of the copy; it is made where it is missing.")],
    wait: Annotated[
        float,
        typer.Option(help="Seconds to wait for those who read the earlier state. Services leave it by themselves."),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Make a copy of an index on this machine, or bring it up to date. Services that have it open go over to it.

    Exit code 10 if somebody still reads the earlier state after --wait seconds: its files are erased by the service, or
    by the next pull.

    Example:

      nda-index pull s3://company/indexes/photos.nda /var/lib/nda-index/photos.nda
    """
    from nda_index.copies.pull import pull_index
    from nda_index.serve.results import drop_stale_answers

    if not wait >= 0:
        raise ConfigError(f"wait is {wait}; it must be 0 or more seconds")
    with progress_bars(messages) as report:
        summary = pull_index(url, index, wait=wait, progress=report)
    drop_stale_answers(index)
    _print_copy(summary, index, "Pulled", f"{summary.deleted:,} old files erased", as_json)
    if summary.waiting:
        if not as_json:
            console.print(f"{summary.waiting:,} old files are there still. The earlier state is read by")
            for reader in summary.readers:
                console.print(f"  {escape(reader)}", highlight=False)
        raise typer.Exit(WAITING)


def _print_copy(summary: CopySummary, index: Path, done: str, deleted: str, as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        print_json({"index": str(index), **asdict(summary)})
        return
    travelled = "nothing new" if not summary.files else f"{summary.files:,} files, {decimal(summary.bytes)}"
    console.print(f"{done} {escape(str(index))}: {travelled}, in {summary.seconds:.1f} s; {deleted}.", highlight=False)
    if summary.foreign:
        from nda_index.copies.lineage import name_some

        names = escape(name_some(summary.foreign))
        console.print(f"Left alone, because no push or pull put it there: {names}.", highlight=False)
