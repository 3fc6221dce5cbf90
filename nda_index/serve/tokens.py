"""Bearer tokens, of which the service knows the hashes only.

A token is 256 random bits, so a plain sha256 keeps it: nobody can try so many.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from nda_index.errors import ConfigError

VARIABLE = "NDA_INDEX_TOKENS"  # hashes in the environment, separated by blanks


def new_token() -> tuple[str, str]:
    """A new token and its hash.

    Example:
        >>> token, digest = new_token()
        >>> accepted(f"Bearer {token}", [digest]), accepted(f"Bearer {token}", [])
        (True, False)
    """
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()


def read_hashes(path: Path | None, environment: str) -> frozenset[str]:
    """Hashes of tokens, from a file's lines and from the environment's variable.

    A line is a hash, 64 hexadecimal digits, and after a blank whatever tells people whose it is. Empty lines and those
    that begin with "#" are skipped.

    Raises:
        ConfigError: the file cannot be read, a line is no hash, or there is none.
    """
    try:
        lines = path.read_text().splitlines() if path else []
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the token file {str(path)!r} cannot be read: {error}; give a text file of hashes"
        ) from error
    words = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    hashes = [word.lower() for word in [*words, *environment.split()]]
    for number, digest in enumerate(hashes, start=1):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise ConfigError(
                f"entry {number} of the tokens is not the sha256 of a token in 64 hexadecimal digits; "
                f"`nda-index token` makes a token and its hash"
            )
    if not hashes and (path is not None or environment):
        source = f"the token file {str(path)!r}" if path is not None else VARIABLE
        raise ConfigError(f"{source} holds no hash of a token; `nda-index token` makes one, or leave it out")
    return frozenset(hashes)


def accepted(authorization: str, hashes: Iterable[str]) -> bool:
    """Whether a header's value is "Bearer" and a token with one of these hashes."""
    kind, _, token = authorization.partition(" ")
    digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    found = [hmac.compare_digest(digest, known) for known in hashes]  # all of them: time tells nothing
    return kind.lower() == "bearer" and any(found)
