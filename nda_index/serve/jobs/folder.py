"""A job on disk: its facts, its pictures and its results. Whatever process is killed when, the next one goes on.

`job.json` is written by rename. `results.jsonl` gets a line for each picture, in their order, and is on the disk before
`job.json` counts it: how far a job has come is how many whole lines there are. Who changes a job locks `lock`.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nda_index.answer.rows import Row, rows_of_error
from nda_index.store.files import sync, write_atomically, writing

ENDED = ("done", "failed")  # states after which nothing changes
INCOMING, ERASED = ".incoming-", ".erased-"  # how the names of folders begin that are no jobs yet, or no more
REMOVED = "an image that this answer named was removed from the index; ask about the picture again"

_FACTS, _NAMES, _PICTURES, _RESULTS, _LOCK = "job.json", "names.json", "pictures", "results.jsonl", "lock"
_READ = 1 << 16  # bytes of results that are read at a time
_PACE_WEIGHT = 0.1  # of the newest picture in the moving average of seconds a picture: about the last ten count

Present = Callable[[Sequence[str]], Mapping[str, Sequence[int]]]  # keys to the images that have them now


class JobGone(Exception):
    """The job was erased, or changed by another process, since it was read."""


@dataclass(frozen=True)
class Job:
    """What is known of a job.

    Attributes:
        id: its name, 32 hexadecimal digits.
        owner: hash of the token that sent it; empty where there are no tokens.
        who: its owner's name, for the audit log.
        request_id: of the request that brought it.
        created: seconds of the epoch.
        options: of `Index.query`.
        total: number of pictures.
        state: "queued", "running", "done" or "failed".
        done: pictures that have a result.
        strong: those of them with a strong match.
        failures: those that have no answer.
        pace: seconds from one result to the next, measured; None: not yet.
        index_hash: of the index that answered last.
        reason: why it has failed.
    """

    id: str
    owner: str
    who: str
    request_id: str
    created: float
    options: Mapping[str, Any] = field(default_factory=dict)
    total: int = 0
    state: str = "queued"
    done: int = 0
    strong: int = 0
    failures: int = 0
    pace: float | None = None
    index_hash: str = ""
    reason: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Seconds to its end at the pace that was measured; None where that is not known."""
        left = self.total - self.done
        return None if self.pace is None or self.state != "running" else self.pace * left


@contextmanager
def incoming(jobs: Path) -> Iterator[Path]:
    """Make the folder of a job that is being received; unless `accept` gives it a name, it is gone after the block.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = jobs / f"{INCOMING}{secrets.token_hex(16)}"
    with writing(folder):
        (folder / _PICTURES).mkdir(parents=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # `drop_leftovers` leaves it alone
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def accept(folder: Path, job: Job, names: Sequence[tuple[str, str]]) -> Path:
    """Make a job of a folder from `incoming`, all at once, and return where it is now.

    Args:
        folder: holds the pictures, at `picture_path`.
        job: its id names the folder.
        names: of each picture its name, and why it is not there; empty where it is.
    """
    path = folder.with_name(job.id)
    write_atomically(folder / _NAMES, json.dumps(names).encode())
    write_atomically(folder / _FACTS, json.dumps(asdict(job)).encode())
    with writing(path):
        (folder / _RESULTS).touch()
        os.rename(folder, path)
        sync(path.parent)
    return path


def picture_path(folder: Path, number: int) -> Path:
    """Return where a picture lies: its name is ours, whatever its sender called it."""
    return folder / _PICTURES / f"{number:06d}"


def read_job(folder: Path) -> Job | None:
    """Return what is known of a job; None where there is none, or its file is damaged."""
    try:
        return Job(**json.loads((folder / _FACTS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def read_picture(folder: Path, number: int) -> tuple[str, str, bytes]:
    """Return a picture's name, why it has no file (empty where it has one), and the file.

    Raises:
        JobGone: it was erased.
    """
    try:
        name, reason = json.loads((folder / _NAMES).read_bytes())[number]
        return name, reason, b"" if reason else picture_path(folder, number).read_bytes()
    except (OSError, ValueError, IndexError) as error:
        raise JobGone(folder.name) from error


def begin(folder: Path) -> None:
    """Note that a job is worked on."""
    with changing(folder) as job:
        if job.state == "queued":
            _write(folder, replace(job, state="running"))


def append(
    folder: Path,
    number: int,
    rows: Sequence[Row],
    index_hash: str,
    seconds: float | None,
    is_current: Callable[[], bool] = lambda: True,
) -> Job:
    """Add the result of a job's next picture.

    Args:
        folder: of the job.
        number: of the picture, from 0.
        rows: its lines of a table.
        index_hash: of the index that was asked.
        seconds: since the result before; None where that is not known.
        is_current: whether the index still holds all images that it held then; asked while nobody else changes the job.

    Raises:
        JobGone: the job was erased, or this is not the result of its next picture any more.
        StorageError: the disk is full or cannot be written; the job is as it was.
    """
    with changing(folder) as job, writing(folder):
        if job.done != number or not is_current():
            raise JobGone(folder.name)
        line = {"picture": number, "question": rows[0]["question"], "index_hash": index_hash, "rows": list(rows)}
        with (folder / _RESULTS).open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
        pace = job.pace if job.pace is not None else seconds
        if pace is not None and seconds is not None:
            pace += _PACE_WEIGHT * (seconds - pace)
        strong, failures = job.strong + _is_strong(line), job.failures + _is_failure(line)
        job = replace(job, done=number + 1, strong=strong, failures=failures, pace=pace, index_hash=index_hash)
        _write(folder, job)
        return job


def finish(folder: Path, state: str, reason: str = "") -> None:
    """End a job: its pictures are erased, its results stay."""
    with changing(folder) as job, writing(folder):
        _erase(folder / _PICTURES)  # first: a job that has ended has none, whenever this process is killed
        _write(folder, replace(job, state=state, reason=reason))


def resume(folder: Path) -> None:
    """Bring a job that another process worked on to a clean state: a line that was cut off is not there."""
    with suppress(JobGone), changing(folder) as job, writing(folder):
        lines = _whole_lines((folder / _RESULTS).read_bytes() if (folder / _RESULTS).exists() else b"")[: job.total]
        _write_results(folder, job, lines)


def forget_removed(folder: Path, present: Present) -> None:
    """Take out of a job's results what names images that the index holds no more.

    A job that goes on asks about those pictures again, and about all after them; in one that has ended `REMOVED` is
    their result.

    Args:
        folder: of the job.
        present: the images that the index holds now; `compact` gives images new ids.
    """
    with suppress(JobGone), changing(folder) as job, writing(folder):
        lines = _whole_lines((folder / _RESULTS).read_bytes() if (folder / _RESULTS).exists() else b"")
        found = present(sorted({row["key"] for line in lines for row in line["rows"] if "key" in row}))
        kept = list[dict[str, Any]]()
        for line in lines:
            rows = [_renumber(row, found) for row in line["rows"]]
            whole = [row for row in rows if row is not None]
            if len(whole) < len(rows):
                if job.state not in ENDED:
                    break
                whole = rows_of_error(line["question"], REMOVED)
            kept.append({**line, "rows": whole})
        _write_results(folder, job, kept)


def read_rows(folder: Path) -> list[Row]:
    """Return the lines of a job's table, as far as it has come."""
    try:
        return [row for line in _whole_lines((folder / _RESULTS).read_bytes()) for row in line["rows"]]
    except FileNotFoundError:
        return []


def read_results(folder: Path) -> Iterator[bytes]:
    """Yield a job's results as they lie on the disk, some lines at a time, without one that is being written."""
    with suppress(FileNotFoundError), (folder / _RESULTS).open("rb") as file:
        while lines := file.readlines(_READ):
            yield b"".join(line for line in lines if line.endswith(b"\n"))


def erase(folder: Path) -> None:
    """Erase a job with all that it holds; it is gone at once, whenever this process is killed."""
    with suppress(JobGone), changing(folder):
        gone = folder.with_name(f"{ERASED}{folder.name}")
        with writing(folder):
            os.rename(folder, gone)
        _erase(gone)


def drop_leftovers(jobs: Path) -> None:
    """Erase what processes that were killed have left half received or half erased."""
    for folder in [*jobs.glob(f"{INCOMING}*"), *jobs.glob(f"{ERASED}*")]:
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            _erase(folder)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _erase(folder)
        except BlockingIOError:  # another process receives it just now
            pass
        finally:
            os.close(descriptor)


def changed(folder: Path) -> float:
    """Return when a job was changed last, in seconds of the epoch; now where that cannot be told."""
    try:
        return (folder / _FACTS).stat().st_mtime
    except OSError:
        return time.time()


@contextmanager
def changing(folder: Path) -> Iterator[Job]:
    """Be the only one who changes a job; yield what is known of it.

    Raises:
        JobGone: it was erased.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except OSError as error:
        raise JobGone(folder.name) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        job = read_job(folder)  # by its path: what was erased while this waited has another
        if job is None:
            raise JobGone(folder.name)
        yield job
    finally:
        os.close(descriptor)


def _write(folder: Path, job: Job) -> None:
    write_atomically(folder / _FACTS, json.dumps(asdict(job)).encode())


def _write_results(folder: Path, job: Job, lines: Sequence[dict[str, Any]]) -> None:
    for part in folder.glob(".*.part"):  # of a process that was killed: who holds the lock is the only one who writes
        part.unlink(missing_ok=True)
    write_atomically(folder / _RESULTS, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    strong, failures = sum(map(_is_strong, lines)), sum(map(_is_failure, lines))
    _write(folder, replace(job, done=len(lines), strong=strong, failures=failures))


def _whole_lines(data: bytes) -> list[dict[str, Any]]:
    """Return the results up to the first that is damaged or missing."""
    lines = list[dict[str, Any]]()
    for text in data.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
            if line["picture"] != len(lines) or not line["rows"]:
                break
        except (ValueError, TypeError, LookupError):
            break
        lines.append(line)
    return lines


def _is_failure(line: Mapping[str, Any]) -> bool:
    return any("error" in row for row in line["rows"])


def _is_strong(line: Mapping[str, Any]) -> bool:
    return any(row.get("strong") for row in line["rows"])


def _renumber(row: Row, found: Mapping[str, Sequence[int]]) -> Row | None:
    """Return a row with the id that its image has now, none where several have its key; None if none has it."""
    if "key" not in row:
        return row
    ids = found.get(row["key"], ())
    return {**row, "image_id": ids[0] if len(ids) == 1 else None} if ids else None


def _erase(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
