"""How many questions the owner of a token may send."""

from __future__ import annotations

import time
from collections.abc import Callable

from nda_index.serve.keyring import Keyring
from nda_index.serve.refusal import refuse_for_now
from nda_index.serve.tokens import Quota

MINUTE, DAY = 60, 86_400  # seconds


class Quotas:
    """Counts questions by token, in this process: a restart forgets them."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.time) -> None:
        """Start all counts at zero; the limits are those of the keyring's tokens, as they are at each question."""
        self._keyring = keyring
        self._clock = clock
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}  # of a token and a length: which window, how many

    def owner(self, digest: str) -> str:
        """Return whose a token is; without a note the first digits of its hash."""
        return self._quota(digest).owner or digest[:8]

    def take(self, digest: str) -> None:
        """Count a question.

        Raises:
            Refusal: it is one too many; `Retry-After` says when the next may come.
        """
        now = self._clock()
        taken = {}
        for seconds, (limit, name) in self._limits(digest).items():
            window, count = self._count(digest, seconds, now)
            if limit is not None and count >= limit:
                raise refuse_for_now(
                    429, "quota", f"this token may send {limit:,} questions a {name}; wait for the next",
                    (window + 1) * seconds - now,
                )  # fmt: skip
            taken[digest, seconds] = window, count + 1
        self._counts |= taken

    def seconds_to_next(self, digest: str) -> float:
        """Return how long to wait until a question may be counted; 0 if it may be now."""
        now, waits = self._clock(), [0.0]
        for seconds, (limit, _) in self._limits(digest).items():
            window, count = self._count(digest, seconds, now)
            if limit is not None and count >= limit:
                waits.append((window + 1) * seconds - now)
        return max(waits)

    def _quota(self, digest: str) -> Quota:
        return self._keyring.tokens.get(digest) or Quota()

    def _limits(self, digest: str) -> dict[int, tuple[int | None, str]]:
        quota = self._quota(digest)
        return {MINUTE: (quota.per_minute, "minute"), DAY: (quota.per_day, "day")}

    def _count(self, digest: str, seconds: int, now: float) -> tuple[int, int]:
        """Return the window of this length that now is, and how many questions were counted in it."""
        window = int(now // seconds)
        known, count = self._counts.get((digest, seconds), (window, 0))
        return window, count if known == window else 0
