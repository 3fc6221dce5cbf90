from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import nda_index as nda
from nda_index.serve.tokens import is_accepted, new_token, read_hashes


def test_hashes_come_from_lines_and_from_the_environment(tmp_path: Path) -> None:
    (one, first), (two, second), (three, third) = new_token(), new_token(), new_token()
    path = tmp_path / "tokens.txt"
    path.write_text(f"# people\n\n{first}  Ada\n  {second.upper()}\n")
    hashes = read_hashes(path, f" {third} ")
    assert hashes == {first, second, third}
    assert all(is_accepted(f"Bearer {token}", hashes) for token in (one, two, three))
    assert not is_accepted(f"Bearer {one[:-1]}", hashes)
    assert read_hashes(None, "") == frozenset()
    assert hashlib.sha256(one.encode()).hexdigest() == first


@pytest.mark.parametrize("line", ["secret", "f" * 63, "f" * 65, "g" * 64])
def test_what_is_no_hash_is_refused_without_being_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(line)
    with pytest.raises(nda.ConfigError, match="entry 1 of the tokens is not the sha256") as refused:
        read_hashes(path, "")
    assert line not in str(refused.value)
    path.write_text("# nobody yet\n")
    with pytest.raises(nda.ConfigError, match="tokens.txt' holds no hash"):
        read_hashes(path, "")
    with pytest.raises(nda.ConfigError, match="NDA_INDEX_TOKENS holds no hash"):
        read_hashes(None, " ")
    with pytest.raises(nda.ConfigError, match="cannot be read"):
        read_hashes(tmp_path / "absent", "")
