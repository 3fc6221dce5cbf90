"""Bearer tokens, of which the service knows the hashes only.

A token is 256 random bits, so a plain sha256 protects it: nobody can try 2^256 tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nda_index.errors import ConfigError

VARIABLE = "NDA_INDEX_TOKENS"  # hashes in the environment, separated by blanks
LIMITS = ("per-minute=", "per-day=")


@dataclass(frozen=True)
class Quota:
    """What a token file says of a token.

    Attributes:
        owner: whose it is, for the logs.
        per_minute: questions in a minute at most; None: any number.
        per_day: questions in a day (UTC) at most; None: any number.
    """

    owner: str = ""
    per_minute: int | None = None
    per_day: int | None = None


def new_token() -> tuple[str, str]:
    """Return a new token and its hash.

    Example:
        >>> token, digest = new_token()
        >>> find_token(f"Bearer {token}", [digest]) == digest, find_token(f"Bearer {token}", [])
        (True, None)
    """
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()


def read_tokens(path: Path | None, environment: str) -> dict[str, Quota]:
    """Read hashes of tokens from a file's lines and from the value of the environment variable.

    A line is a hash, 64 hexadecimal digits. After a blank may follow `per-minute=N` and `per-day=N`, the questions that
    its owner may send at most, and a note of whose it is. Empty lines and lines that begin with "#" are skipped.

    Raises:
        ConfigError: the file cannot be read, a line is not a hash, or a number is none.
    """
    try:
        lines = path.read_text().splitlines() if path else []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"the token file {str(path)!r} cannot be read: {reason}; make one with `nda-index token >> tokens.txt`"
        ) from error
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    words += [[word] for word in environment.split()]
    hashes = [digest.lower() for digest, *_ in words]
    for number, digest in enumerate(hashes, start=1):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ConfigError(
                f"entry {number} of the tokens is not the sha256 of a token in 64 hexadecimal digits; "
                f"`nda-index token` makes a token and its hash"
            )
    return {digest.lower(): _read_quota(rest, number) for number, (digest, *rest) in enumerate(words, start=1)}


def check_some(tokens: Mapping[str, Quota], path: Path | None, environment: str) -> None:
    """Raise `ConfigError` where a file or the variable is given, and neither holds a hash: nobody could ask."""
    if not tokens and (path is not None or environment):
        source = f"the token file {str(path)!r}" if path is not None else VARIABLE
        raise ConfigError(f"{source} holds no hash of a token; make one with `nda-index token`, or leave it out")


def _read_quota(words: Sequence[str], number: int) -> Quota:
    """Read what follows a hash."""
    limits: dict[str, int] = {}
    for name, _, value in (word.partition("=") for word in words if word.startswith(LIMITS)):
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(f"entry {number} of the tokens has {name}={value}; it must be a whole number, 1 or more")
        limits[name.replace("-", "_")] = int(value)
    return Quota(" ".join(word for word in words if not word.startswith(LIMITS)), **limits)


def find_token(authorization: str, hashes: Iterable[str]) -> str | None:
    """Return the hash of the token that a header's value brings as "Bearer TOKEN"; None if it is not one of these."""
    kind, _, token = authorization.partition(" ")
    digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    matches = [hmac.compare_digest(digest, known) for known in hashes]  # all of them: the time taken tells nothing
    return digest if kind.lower() == "bearer" and any(matches) else None
