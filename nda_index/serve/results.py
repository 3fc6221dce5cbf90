"""Answers on disk: a file each, named by its question, so that an answer can be read again and shared."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from nda_index.answer.arrow import answer_bytes
from nda_index.answer.attribution import Attribution, read_answer
from nda_index.errors import AnswerFormatError, NdaIndexError, StorageError, VersionError
from nda_index.question import Query
from nda_index.serve.collection import present_images, state
from nda_index.serve.jobs.folder import Present
from nda_index.serve.jobs.queue import forget_removed
from nda_index.store.files import write_atomically, writing
from nda_index.store.folder import whole_index
from nda_index.version import __version__

ID = "[0-9a-f]{32}"
LEFT_OVER = 3600.0  # seconds after which a part is a leftover; a younger one may be in the hands of another process
LOG = logging.getLogger(__name__)

_SUFFIX = ".arrow"
_COLLECTION = "collection.json"
_ANSWER = re.compile(rf"{ID}\{_SUFFIX}")  # other files in the folder are somebody's, and stay
_PART = re.compile(rf"\.({ID}\{_SUFFIX}|collection\.json|\.writable)\..*\.part")  # of one that was being written
_KEPT = 0.9  # of the budget after a clean-up, so that not every new answer needs one


def result_id(query: Query, index_hash: str) -> str:
    """Return the name of the answer to a query: 32 hexadecimal digits of the sha256 of all that it depends on.

    Args:
        query: the query.
        index_hash: of the index that answers.
    """
    question = {"shape": query.pixels.shape, "top": query.top, "settings": query.question.as_settings()}
    facts = json.dumps([question, index_hash, __version__, query.picture and query.picture.size], sort_keys=True)
    whole = query.picture.tobytes() if query.picture else b""  # two pictures may be one when they are made small
    return hashlib.sha256(facts.encode() + query.pixels.tobytes() + whole).hexdigest()[:32]


def default_folder(index: Path) -> Path:
    """Return where a service of an index stores its answers, if it is not told otherwise.

    Example:
        >>> default_folder(Path("/data/photos.nda"))
        PosixPath('/data/photos.nda.results')
    """
    index = index.resolve()
    return index.with_name(f"{index.name}.results")


def hide_paths(answer: Attribution) -> Attribution:
    """Return an answer without the paths of photographs' files: whoever asks need not know the server's folders."""
    return replace(answer, regions=tuple(replace(region, path=None) for region in answer.regions))


def drop_stale_answers(index: Path) -> None:
    """Delete the answers beside an index if images were removed since: the service may not run and do it.

    Args:
        index: folder of an index, or of one of its shards.

    Raises:
        StorageError: the folder cannot be written.
        NotAnIndexError, VersionError, CorruptIndexError: as `open_index`.
    """
    folder = default_folder(whole_index(index))
    if (folder / _COLLECTION).exists():
        present = partial(present_images, whole_index(index))
        Results(folder, sys.maxsize, present).bind_to(state(whole_index(index))[1])


class Results:
    """A folder of answers with a budget of bytes.

    A file is written under another name and renamed: whenever the process ends, a file is whole or missing.
    """

    def __init__(self, folder: Path, budget: int, present: Present = lambda keys: {}) -> None:
        """Open a folder, or make it.

        Args:
            folder: of the answers, and of the jobs.
            budget: bytes of the answers.
            present: the images of the index that have some keys, for the results of jobs; by default none.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._folder = folder
        self._present = present
        self._budget = budget
        self._lock = threading.Lock()
        with writing(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # answers hold pictures of clients
            for part in folder.iterdir():
                with suppress(FileNotFoundError):
                    old = time.time() - LEFT_OVER  # left by a process that was killed
                    if _PART.fullmatch(part.name) and part.stat().st_mtime < old:
                        part.unlink()
        self._bytes = sum(size for _, size, _ in self._files())

    @property
    def bytes(self) -> int:
        """Size of the answers on disk."""
        return self._bytes

    def check_writable(self) -> None:
        """Raise `StorageError` where answers cannot be stored."""
        path = self._folder / ".writable"
        write_atomically(path, b"\0" * 4096)
        path.unlink(missing_ok=True)

    def bind_to(self, collection: str) -> None:
        """Delete all answers if images were removed since they were stored, as they may hold copies of these.

        Results of jobs lose what names a removed image.

        Args:
            collection: a text that changes when images are removed.
        """
        with self._lock:
            if self._collection() == collection:
                return
            self._set_collection(None)  # if this is interrupted, or another process looks, no answer is valid
            for path in self._folder.iterdir():
                if _ANSWER.fullmatch(path.name) or _PART.fullmatch(path.name):
                    path.unlink(missing_ok=True)  # parts too: another process that writes one fails to store it
            self._bytes = 0
            forget_removed(self._folder, self._find_present)
            self._set_collection(collection)

    def is_bound_to(self, collection: str) -> bool:
        """Whether answers of this collection may be kept."""
        return self._collection() == collection

    def put(self, identity: str, answer: Attribution, collection: str) -> None:
        """Store an answer, unless images have been removed since it was computed.

        Args:
            identity: its name.
            answer: the answer.
            collection: of the index that answered, as for `bind_to`.

        Raises:
            StorageError: the disk is full or cannot be written, or the folder is gone.
        """
        path, data = self._path(identity), answer_bytes(answer)
        if not self._folder.is_dir():
            raise StorageError(f"the folder of the stored answers, {str(self._folder)!r}, is gone; make it again")
        with self._lock:
            if path.exists() or self._collection() != collection:
                return
            write_atomically(path, data)
            if self._collection() != collection:  # another process has bound the folder to a smaller collection
                path.unlink(missing_ok=True)
                return
            self._bytes += len(data)
            if self._bytes > self._budget:
                self._drop_oldest(path)

    def get(self, identity: str) -> Attribution | None:
        """Return the answer of this name, or None if there is none.

        Raises:
            VersionError: a newer nda_index wrote it.
        """
        path = self._path(identity)
        try:
            data = path.read_bytes()
            os.utime(path)
            return hide_paths(read_answer(data))  # earlier services kept them
        except OSError:
            return None
        except VersionError:
            raise
        except AnswerFormatError as error:  # damaged on disk: the same question computes it again
            LOG.warning("the stored answer %s is damaged and is deleted: %s", identity, error)
            path.unlink(missing_ok=True)
            return None

    def _find_present(self, keys: Sequence[str]) -> Mapping[str, Sequence[int]]:
        try:
            return self._present(keys)
        except NdaIndexError as error:  # it cannot be told what was removed: nothing may be kept
            LOG.error("the keys of the index cannot be read, and the results of jobs are dropped: %s", error)
            return {}

    def _collection(self) -> str | None:
        """Return the collection of the answers: from disk, since several processes may share the folder."""
        try:
            collection = json.loads((self._folder / _COLLECTION).read_text())["collection"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return None if collection is None else str(collection)

    def _set_collection(self, collection: str | None) -> None:
        write_atomically(self._folder / _COLLECTION, json.dumps({"collection": collection}).encode())

    def _path(self, identity: str) -> Path:
        if not re.fullmatch(ID, identity):
            raise ValueError(f"{identity!r} is not the name of an answer")
        return self._folder / f"{identity}{_SUFFIX}"

    def _files(self) -> list[tuple[Path, int, float]]:
        """Return path, size and time of last use of every answer."""
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _ANSWER.fullmatch(entry.name):
                    try:
                        status = entry.stat()
                    except FileNotFoundError:
                        continue
                    files.append((Path(entry.path), status.st_size, status.st_mtime))
        return files

    def _drop_oldest(self, newest: Path) -> None:
        files = sorted(self._files(), key=lambda file: (file[0] == newest, file[2]))
        self._bytes = sum(size for _, size, _ in files)
        for path, size, _ in files[:-1]:
            if self._bytes <= self._budget * _KEPT:
                break
            path.unlink(missing_ok=True)
            self._bytes -= size
