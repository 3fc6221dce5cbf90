"""The exceptions of nda_index.

- `NdaIndexError`: the base of all of them; catch this one to catch everything the package raises on purpose.
    - `ConfigError`: an argument or a setting breaks a rule.
    - `SourceError`: the images to index cannot be read.
    - `IndexFormatError`: a folder cannot be used as an index.
        - `NotAnIndexError`: it is not an index, or its build was interrupted.
        - `VersionError`: it was written by a newer nda_index.
        - `CorruptIndexError`: a file of it is missing, damaged or was changed.
        - `MismatchError`: its parts do not belong together.
    - `AnswerFormatError`: a file is not an answer of this package, or a byte of it was changed.
    - `QueryError`: a question cannot be answered with its options.
        - `ImageDecodeError`: the picture cannot be read.
    - `ShardLostError`: a part of the collection cannot be reached.
    - `StorageError`: the disk is full or cannot be written, or an object store cannot be reached.
        - `LockedError`: another process writes to the index.
    - `ServiceError`: a service of nda_index refused to answer, or did not answer.
    - `MissingDependencyError`: an optional package is needed and not installed.

    try:
        answer = index.attribute("picture.png")
    except nda_index.NdaIndexError as error:
        print(error)

Every message names the thing, its value, the rule that it breaks and the remedy. `exit_code` is what the command
line exits with; `OUTCOMES` has the codes of what is no error.
"""

from __future__ import annotations

import errno

INTERRUPTED = 130  # what the command line exits with after Ctrl-C, as a shell reports a process that it ended
WAITING, FOREIGN, PULL_INTERRUPTED = 10, 11, 12
OUTCOMES = {
    WAITING: "`compact`, `pull` or `verify` found files of an earlier state that are there still.",
    FOREIGN: "`verify` found files that do not belong to the index, and no damage.",
    PULL_INTERRUPTED: "`verify` found files of a pull that was interrupted, in a copy that is whole: pull again.",
}


class NdaIndexError(Exception):
    """Base class of all exceptions that nda_index raises on purpose."""

    exit_code = 1


class ConfigError(NdaIndexError, ValueError):
    """An argument or a setting breaks a rule."""

    exit_code = 2


class SourceError(NdaIndexError):
    """The images to index cannot be read."""

    exit_code = 3


class IndexFormatError(NdaIndexError):
    """A folder cannot be used as an index."""

    exit_code = 4


class NotAnIndexError(IndexFormatError):
    """The folder is not an index, or its build was interrupted."""


class VersionError(IndexFormatError):
    """The index was written by a newer nda_index than this one."""


class CorruptIndexError(IndexFormatError):
    """A file of the index is missing, damaged or was changed after the build."""


class MismatchError(IndexFormatError):
    """Parts of the index do not belong together."""


class AnswerFormatError(NdaIndexError):
    """A file is not an answer of nda_index, or a byte of it was changed."""

    exit_code = 4


class QueryError(NdaIndexError, ValueError):
    """A question cannot be answered with its options."""

    exit_code = 5


class ImageDecodeError(QueryError):
    """A picture cannot be read."""


class ShardLostError(NdaIndexError):
    """A part of the collection cannot be reached."""

    exit_code = 8


class StorageError(NdaIndexError):
    """The disk is full or cannot be written, or an object store cannot be reached."""

    exit_code = 6


class LockedError(StorageError):
    """Another process writes to the index; there is one writer at a time."""


class ServiceError(NdaIndexError):
    """A service of nda_index refused to answer, or did not answer.

    Attributes:
        status: of the HTTP response; 0 where there was none.
        retry_after: seconds after which the service may be called again, or None.
    """

    exit_code = 9

    def __init__(self, message: str, status: int = 0, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class MissingDependencyError(NdaIndexError, ImportError):
    """An optional package is needed and not installed."""

    exit_code = 7


_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_DENIED_TEXTS = ("permission denied", "read-only file system", "operation not permitted", "os error 13")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS = ("no space left", "disk quota exceeded", "os error 28")


def find_remedy(error: BaseException, otherwise: str) -> str:
    """Return what to do about an error of a file: its permissions or the room on its disk where it speaks of these.

    Example:
        >>> find_remedy(PermissionError(13, "Permission denied"), "restore it")
        'check the permissions of the file and of the folders that it is in'
        >>> find_remedy(OSError("it is cut short"), "restore it")
        'restore it'
    """
    number, text = getattr(error, "errno", None), str(error).lower()
    if number in _DENIED or any(words in text for words in _DENIED_TEXTS):
        return "check the permissions of the file and of the folders that it is in"
    if number in _FULL or any(words in text for words in _FULL_TEXTS):
        return "the disk is full: make room or choose another folder"
    return otherwise
