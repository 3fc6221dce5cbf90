"""The commands of the service: nda-index serve | token. Modules of the extra `serve` are imported when it starts."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nda_index.errors import INTERRUPTED, ConfigError, MissingDependencyError, NdaIndexError
from nda_index.serve.logs import configure_logs
from nda_index.serve.settings import ServeSettings
from nda_index.serve.tokens import VARIABLE, Quota, check_some, new_token, read_tokens
from nda_index.store.audit import audit_path

if TYPE_CHECKING:
    from nda_index.index import Index

LOG = logging.getLogger(__name__)

Results = Annotated[
    Path | None, typer.Option(help="Folder of the stored answers; by default INDEX.results, next to the index.")
]
ResultsMib = Annotated[
    int, typer.Option(help="Size of that folder; above it the least recently used answers are deleted.")
]
WithoutTokens = Annotated[
    bool, typer.Option("--without-tokens", help="Let everyone who reaches the address send questions.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="Another host name by which a proxy on this machine calls the service; may be repeated."),
]
Queue = Annotated[
    int, typer.Option(help="Questions in flight at most; more are refused. More means longer waits under load.")
]
Batch = Annotated[
    int, typer.Option(help="Questions answered at once. More gives more throughput, and later first answers.")
]
Deadline = Annotated[float, typer.Option(help="Seconds from a question to its answer, after which it is given up.")]
UploadMib = Annotated[
    int, typer.Option(help="Size of a picture's file at most. Each question in flight may hold that much memory.")
]
Jobs = Annotated[
    int, typer.Option(help="Jobs that are not finished at most; more are refused. Each may hold --job-mib. 0: no jobs.")
]
JobPictures = Annotated[int, typer.Option(help="Pictures of a job at most.")]
JobMib = Annotated[int, typer.Option(help="Size of a job's pictures at most; they wait on the disk for their turn.")]
Drain = Annotated[float, typer.Option(help="Seconds that running questions have after SIGTERM. More delays a restart.")]
RootPath = Annotated[str, typer.Option(help="Path at which a proxy shows the service, such as /photos.")]
Texts = Annotated[
    Path | None, typer.Option(help="Texts of the page in another language: a translated copy of its static/texts.js.")
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", help="Log JSON lines alone, with one for each request: route, status, time, owner."),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial/--whole",
        help="With --ray, where a shard is lost: answer from the others and say how many images were not searched, or "
        "refuse. Either way the shard is opened again, once a minute.",
    ),
]
Ray = Annotated[
    str | None, typer.Option(help="Open the shards on the Ray cluster at this address; auto: this machine's.")
]


def serve(
    index: Annotated[Path, typer.Argument(help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on; other machines reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: a free one.")] = 8000,
    results: Results = None,
    results_mib: ResultsMib = ServeSettings.results_bytes >> 20,
    token_file: Annotated[
        Path | None, typer.Option(help="Hashes of bearer tokens, one a line; changes count within a second.")
    ] = None,
    without_tokens: WithoutTokens = False,
    allow_host: AllowHost = None,
    queue: Queue = ServeSettings.queue,
    batch: Batch = ServeSettings.batch,
    deadline: Deadline = ServeSettings.deadline,
    upload_mib: UploadMib = ServeSettings.upload_bytes >> 20,
    jobs: Jobs = ServeSettings.jobs,
    job_pictures: JobPictures = ServeSettings.job_pictures,
    job_mib: JobMib = ServeSettings.job_bytes >> 20,
    drain: Drain = ServeSettings.deadline,
    root_path: RootPath = ServeSettings.root_path,
    texts: Texts = None,
    log_json: LogJson = False,
    threads: Annotated[int | None, typer.Option(help="Threads of computation; one for each core by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    ray: Ray = None,
    partial: Partial = True,
) -> None:
    """Serve an index over HTTP, with a page. Hashes of tokens may also be in the variable NDA_INDEX_TOKENS.

    Examples:

      nda-index serve photos.nda

      nda-index serve photos.nda --host 0.0.0.0 --token-file tokens.txt
    """
    configure_logs(log_json)
    with _ending_in_json() if log_json else nullcontext():
        _check_installed()
        from nda_index.serve.results import default_folder
        from nda_index.serve.server import check_bind

        tokens, reread_tokens = _open_tokens(token_file)
        check_bind(host, bool(tokens), without_tokens)
        settings = ServeSettings(
            results=results or default_folder(index),
            results_bytes=results_mib << 20,
            tokens=tokens,
            reread_tokens=reread_tokens,
            root_path=root_path,
            audit=audit_path(index),
            texts=texts,
            hosts=_find_hosts(host, allow_host or []),
            queue=queue,
            batch=batch,
            deadline=deadline,
            upload_bytes=upload_mib << 20,
            jobs=jobs,
            job_pictures=job_pictures,
            job_bytes=job_mib << 20,
            threads=os.cpu_count() or 1 if threads is None else threads,
        )
        _run(index, settings, _opener(device, ray, partial), host, port, drain)


def _run(
    folder: Path, settings: ServeSettings, reopen: Callable[[Path], Index], host: str, port: int, drain: float
) -> None:
    from nda_index.serve.app import create_app
    from nda_index.serve.server import listen, run

    app = create_app(reopen(folder), settings, reopen)  # no name for the index: its files would stay mapped for good
    with listen(host, port) as listening:
        app.state.service.address = f"http://{_in_url(host)}:{listening.getsockname()[1]}{settings.root_path}/"
        run(app, listening, drain)


@contextmanager
def _ending_in_json() -> Iterator[None]:
    """Log what ends the service, which `nda-index` would print as a line for people."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        LOG.info("interrupted")
        raise typer.Exit(INTERRUPTED) from error
    except NdaIndexError as error:
        LOG.critical("%s", error)
        raise typer.Exit(error.exit_code) from error
    except Exception as error:
        LOG.critical("the service ends: %s", error, exc_info=True)
        raise typer.Exit(NdaIndexError.exit_code) from error


def _find_hosts(host: str, allowed: Sequence[str]) -> frozenset[str] | None:
    """Return the names by which this machine's service may be called; None where others reach it: any."""
    from nda_index.serve.guard import LOCAL_HOSTS
    from nda_index.serve.server import is_loopback

    return LOCAL_HOSTS | {_in_url(host), *allowed} if is_loopback(host) else None


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _open_tokens(file: Path | None) -> tuple[dict[str, Quota], Callable[[], dict[str, Quota]]]:
    """Return the tokens, and what reads them again."""
    environment = os.environ.get(VARIABLE, "")
    reread = functools.partial(read_tokens, file, environment)
    tokens = reread()
    check_some(tokens, file, environment)
    return tokens, reread


def _check_installed() -> None:
    """Raise `MissingDependencyError` if the extra `serve` is not installed."""
    try:
        import nda_index.serve.app
        import nda_index.serve.server  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"{error.name} is not installed; run: pip install 'nda-index[serve]'") from error


def _opener(device: str, ray: str | None, partial: bool) -> Callable[[Path], Index]:
    """Return what opens the index."""
    if ray is not None:
        return functools.partial(_open_cluster, address=ray, partial=partial)
    from nda_index.index import open_index

    return functools.partial(open_index, device=device)


def _open_cluster(index: Path, address: str, partial: bool) -> Index:
    from nda_index.cluster.shards import open_cluster

    return open_cluster(index, address, partial=partial)


def token(
    note: Annotated[str, typer.Argument(help="Limits, and whose it is: 'per-day=200 Ada Lovelace'.")] = "",
) -> None:
    """Make a bearer token for `serve`: the token on standard error, for its owner, and its line on standard output.

    Example:

      nda-index token "Ada Lovelace" >> tokens.txt
    """
    if not note.isprintable():
        raise ConfigError(f"the note is {note!r}; it must be one line of text")
    secret, digest = new_token()
    print(f"The token, shown only once: {secret}", file=sys.stderr)
    print(f"{digest} {note}".strip())
