"""The tokens that a service accepts, as its token file has them now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from nda_index.errors import ConfigError
from nda_index.serve.tokens import Quota, find_token

LOG = logging.getLogger(__name__)


class Keyring:
    """Follows the token file.

    Attributes:
        tokens: by hash, what is known of each accepted token.
        closed: whether a token is needed. It stays so when the last one is withdrawn.
    """

    def __init__(self, tokens: Mapping[str, Quota], reread: Callable[[], Mapping[str, Quota]] | None = None) -> None:
        """Start with some tokens; none: the service is open to everyone. `reread` returns those of a moment."""
        self.tokens = tokens
        self.closed = bool(tokens)
        self._reread = reread
        self._problem = ""  # of the file, so that it is logged once

    def find(self, authorization: str) -> str | None:
        """Return the hash of the token that a header's value brings; None if it is not accepted."""
        return find_token(authorization, self.tokens)

    def accepts(self, digest: str) -> bool:
        """Return whether the owner of a token, "" without one, may ask."""
        return not self.closed or digest in self.tokens

    def follow(self) -> None:
        """Read the file again; where it cannot be read, or breaks a rule, the tokens known so far are kept."""
        if self._reread is None or not self.closed:
            return
        try:
            tokens = self._reread()
        except ConfigError as error:
            if str(error) != self._problem:
                LOG.error("the tokens stay as they were: %s", error)
            self._problem = str(error)
            return
        self._problem = ""
        if tokens != self.tokens:
            added, withdrawn = len(tokens.keys() - self.tokens.keys()), len(self.tokens.keys() - tokens.keys())
            self.tokens = tokens
            LOG.info("tokens were read again: %d added, %d withdrawn, %d in all", added, withdrawn, len(tokens))
