from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest

from nda_index.serve.keyring import LOG, Keyring
from nda_index.serve.quotas import Quotas
from nda_index.serve.refusal import Refusal
from nda_index.serve.tokens import Quota, new_token, read_tokens
from tests.serve.conftest import serving, until


def test_a_withdrawn_token_and_a_changed_limit_count_without_a_restart(index_folder: Path, tmp_path: Path) -> None:
    (one, first), (two, second) = new_token(), new_token()
    file = tmp_path / "tokens.txt"
    file.write_text(first)
    reread = partial(read_tokens, file, "")
    with serving(index_folder, tmp_path / "results", tokens=reread(), reread_tokens=reread) as served:

        def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return served.http.post("/v1/attribute", data={"image_id": "x"}, headers=headers).status_code

        assert (status(one), status(two)) == (415, 401)
        file.write_text(f"{first}\n{second} per-day=1\n")
        until(lambda: status(two) == 415)
        assert (status(one), status(two)) == (415, 429)
        file.write_text(f"{second} per-day=2\n")
        until(lambda: status(one) == 401)
        assert (status(two), status(two)) == (415, 429)  # what was counted under the old limit counts
        file.write_text("")
        until(lambda: status(two) == 401)
        assert served.http.get("/v1/index").status_code == 401


def test_what_cannot_be_read_keeps_the_tokens_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    (one, first), (two, second) = new_token(), new_token()
    file = tmp_path / "tokens.txt"
    file.write_text(first)
    keyring = Keyring(read_tokens(file, ""), partial(read_tokens, file, ""))

    def accepted() -> list[bool]:
        return [keyring.find(f"Bearer {token}") is not None for token in (one, two)]

    for broken in (lambda: file.write_text(f"{second}\n{first[:30]}"), file.unlink, file.mkdir):
        caplog.clear()
        broken()
        for _ in range(3):
            keyring.follow()
        assert accepted() == [True, False]
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert first[:30] not in caplog.text and "the tokens stay as they were" in caplog.text
    file.rmdir()
    caplog.clear()
    file.write_text(second)
    keyring.follow()
    keyring.follow()
    assert accepted() == [False, True]
    assert [record.getMessage() for record in caplog.records] == [
        "tokens were read again: 1 added, 1 withdrawn, 1 in all"
    ]
    assert not keyring.accepts(first) and keyring.accepts(second)


def test_no_file_opens_or_closes_a_service() -> None:
    emptied = Keyring({"a": Quota()}, dict)
    emptied.follow()
    assert emptied.closed and not emptied.accepts("a") and not emptied.accepts("")
    unguarded = Keyring({}, lambda: {"a": Quota()})
    unguarded.follow()
    assert not unguarded.closed and unguarded.accepts("")


def test_limits_are_those_of_the_moment() -> None:
    now = {"a": Quota("Ada", per_day=1)}
    keyring = Keyring(now, lambda: {"a": Quota("Ada L.", per_day=2)})
    quotas = Quotas(keyring, lambda: 0.0)
    quotas.take("a")
    with pytest.raises(Refusal, match="1 questions a day"):
        quotas.take("a")
    keyring.follow()
    quotas.take("a")
    assert quotas.owner("a") == "Ada L."
