from __future__ import annotations

from pathlib import Path

from nda_index.store.folder import BUILDING, MANIFEST, READERS, SHARDS, WRITER_LOCK, list_files, sweep


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")


def test_an_index_is_its_files_without_locks_manifest_and_shards(tmp_path: Path) -> None:
    fill(tmp_path, "null.arrow", "scales/p7r1/lists-00000.arrow", f"{SHARDS}/00000/null.arrow")
    fill(
        tmp_path,
        MANIFEST,
        BUILDING,
        f"{READERS}/1.lock",
        WRITER_LOCK,
        "images.lance/_versions/latest_version_hint.json",
    )
    assert list_files(tmp_path) == ["null.arrow", "scales/p7r1/lists-00000.arrow"]


def test_sweeping_keeps_what_is_named_and_leaves_shards_alone(tmp_path: Path) -> None:
    kept = ["null.arrow", "scales/p7r1/lists-00000.arrow"]
    fill(tmp_path, *kept, MANIFEST, WRITER_LOCK, "scales/p7r1/lists-00001.arrow", "scales/p9r1/quantizer.arrow")
    fill(tmp_path, "images.lance/_versions/latest_version_hint.json", f"{SHARDS}/00000/null.arrow")
    (tmp_path / SHARDS / "00001").mkdir()
    sweep(tmp_path, keep=kept)
    assert list_files(tmp_path) == kept
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == sorted(
        [*kept, MANIFEST, WRITER_LOCK, "scales", "scales/p7r1", SHARDS]
        + [f"{SHARDS}/00000", f"{SHARDS}/00000/null.arrow", f"{SHARDS}/00001"]
    )
