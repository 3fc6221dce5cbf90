"""Bearer tokens, of which the service knows the hashes only.

A token is 256 random bits, so a plain sha256 protects it: nobody can try 2^256 tokens.
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
    """Return a new token and its hash.

    Example:
        >>> token, digest = new_token()
        >>> is_accepted(f"Bearer {token}", [digest]), is_accepted(f"Bearer {token}", [])
        (True, False)
    """
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()


def read_hashes(path: Path | None, environment: str) -> frozenset[str]:
    """Read hashes of tokens from a file's lines and from the value of the environment variable.

    A line is a hash, 64 hexadecimal digits; text after a blank is a note of whose it is. Empty lines and lines that
    begin with "#" are skipped.

    Raises:
        ConfigError: the file cannot be read, a line is not a hash, or there is no hash.
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
        raise ConfigError(f"{source} holds no hash of a token; make one with `nda-index token`, or leave it out")
    return frozenset(hashes)


def is_accepted(authorization: str, hashes: Iterable[str]) -> bool:
    """Return whether a header's value is "Bearer" and a token with one of these hashes."""
    kind, _, token = authorization.partition(" ")
    digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    matches = [hmac.compare_digest(digest, known) for known in hashes]  # all of them: the time taken tells nothing
    return kind.lower() == "bearer" and any(matches)
