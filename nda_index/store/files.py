"""Files that are whole or not there: writes that survive a crash, and the errors of a disk that refuses them."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from nda_index.errors import ConfigError, StorageError, find_remedy


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds it whole or as it was before, also after a crash of the machine.

    Several processes may write the same file: the last one to finish wins.

    Args:
        path: of the file; its folder must exist. `.NAME.*.part` in it is a write that was killed.
        data: the whole content.

    Raises:
        StorageError: the disk is full or cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answer.json"
        >>> write_atomically(path, b"{}")
        >>> path.read_bytes()
        b'{}'
    """
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    with writing(path):
        try:
            temporary.write_bytes(data)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def is_left_over(name: str, *written: str) -> bool:
    """Tell whether a file is what `write_atomically` leaves of one of some files when it is killed.

    Example:
        >>> is_left_over(".a.json.0123456789abcdef.part", "a.json"), is_left_over("a.json", "a.json")
        (True, False)
    """
    return any(re.fullmatch(rf"\.{re.escape(each[:40])}\.[0-9a-f]{{16}}\.part", name) for each in written)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of a full or unwritable disk into `StorageError`."""
    try:
        yield
    except OSError as error:
        reason, remedy = error.strerror or str(error), find_remedy(error, "choose another folder")
        raise StorageError(f"{str(path)!r} cannot be written: {reason}; {remedy}") from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_folder(path: Path) -> None:
    """Raise `StorageError` where a file's folder is not there, before the work whose result is to be written."""
    if not path.parent.is_dir():
        raise StorageError(f"{str(path)!r} cannot be written: there is no folder {str(path.parent)!r}; make it first")


def ending_of(path: Path, endings: Collection[str]) -> str:
    """Return the ending of a file's name, in small letters and without its dot.

    Raises:
        ConfigError: it is none of these endings.

    Example:
        >>> ending_of(Path("answer.HTML"), ("html", "json"))
        'html'
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in endings:
        known = ", ".join(f".{name}" for name in sorted(endings))
        raise ConfigError(f"cannot save as {path.name!r}: the name must end in {known}")
    return ending
