from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.serve.tokens import Quota, check_some, find_token, new_token, read_tokens


def test_hashes_come_from_lines_and_from_the_environment(tmp_path: Path) -> None:
    (one, first), (two, second), (three, third) = new_token(), new_token(), new_token()
    path = tmp_path / "tokens.txt"
    path.write_text(f"# people\n\n{first}  per-day=20 Ada L. per-minute=2\n  {second.upper()}\n")
    hashes = read_tokens(path, f" {third} ")
    assert hashes == {first: Quota("Ada L.", 2, 20), second: Quota(), third: Quota()}
    assert [find_token(f"Bearer {token}", hashes) for token in (one, two, three)] == [first, second, third]
    assert not find_token(f"Bearer {one[:-1]}", hashes)
    assert read_tokens(None, "") == {}
    assert hashlib.sha256(one.encode()).hexdigest() == first


@pytest.mark.parametrize("line", ["secret", "f" * 63, "f" * 65, "g" * 64])
def test_what_is_no_hash_is_refused_without_being_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(line)
    with pytest.raises(nda.ConfigError, match="entry 1 of the tokens is not the sha256") as refused:
        read_tokens(path, "")
    assert line not in str(refused.value)
    path.write_text("# nobody yet\n")
    with pytest.raises(nda.ConfigError, match="tokens.txt' holds no hash"):
        check_some(read_tokens(path, ""), path, "")
    with pytest.raises(nda.ConfigError, match="NDA_INDEX_TOKENS holds no hash"):
        check_some(read_tokens(None, " "), None, " ")
    check_some(read_tokens(None, ""), None, "")
    with pytest.raises(nda.ConfigError, match="cannot be read"):
        read_tokens(tmp_path / "absent", "")


@pytest.mark.parametrize("limit", ["per-minute=0", "per-day=many", "per-day=", "per-minute=1.5"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, limit: str) -> None:
    (tmp_path / "tokens.txt").write_text(f"{'a' * 64} {limit} Ada")
    with pytest.raises(nda.ConfigError, match=f"entry 1 of the tokens has {limit}; it must be a whole number"):
        read_tokens(tmp_path / "tokens.txt", "")
