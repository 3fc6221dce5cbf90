from __future__ import annotations

import pytest

from nda_index.serve.keyring import Keyring
from nda_index.serve.quotas import DAY, Quotas
from nda_index.serve.refusal import Refusal
from nda_index.serve.tokens import Quota


def test_questions_are_counted_by_token_minute_and_day() -> None:
    now = [DAY * 100.0 + 30]
    quotas = Quotas(Keyring({"a": Quota("Ada", per_minute=2, per_day=3), "b": Quota()}), lambda: now[0])
    quotas.take("a")
    quotas.take("a")
    for digest in ("b", "b", "b", "unknown"):
        quotas.take(digest)
    with pytest.raises(Refusal, match="2 questions a minute") as refused:
        quotas.take("a")
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "30")
    now[0] += 30
    quotas.take("a")  # what is refused is not counted
    with pytest.raises(Refusal, match="3 questions a day") as refused:
        quotas.take("a")
    assert int(refused.value.headers["Retry-After"]) == DAY - 60
    now[0] += DAY
    quotas.take("a")


def test_an_owner_has_a_name_or_the_first_digits_of_the_hash() -> None:
    quotas = Quotas(Keyring({"0123456789": Quota(), "a": Quota("Ada")}))
    assert (quotas.owner("a"), quotas.owner("0123456789"), quotas.owner("fedcba9876")) == (
        "Ada",
        "01234567",
        "fedcba98",
    )
