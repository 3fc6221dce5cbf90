from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from nda_index.serve.jobs.archives import AT_ONCE, Pictures, unpack
from nda_index.serve.refusal import Refusal
from nda_index.serve.settings import ServeSettings

FILES = {"../../etc/passwd": b"one", "/absolute.png": b"two", ".a/b/ü.png": b"three", "": b"four"}
HIDDEN = {"a/.DS_Store": b"x", "__MACOSX/._a.png": b"x"}


def tar(files: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for other in others:
            archive.addfile(other)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        for name, data in files.items():
            archive.writestr(name or "four", data)
    return buffer.getvalue()


def of_kind(kind: bytes, name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def unpacked(data: bytes, folder: Path, **bounds: int) -> Pictures:
    settings = ServeSettings(folder, **bounds)  # type: ignore[arg-type]
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "archive").write_bytes(data)
    pictures = Pictures(folder, settings)
    unpack(folder / "archive", pictures, settings)
    return pictures


@pytest.mark.parametrize("pack", [tar, zipped])
def test_files_are_copied_under_names_of_ours(pack: object, tmp_path: Path) -> None:
    data = pack({**FILES, **HIDDEN})  # type: ignore[operator]
    pictures = unpacked(data, tmp_path)
    assert [name for name, _ in pictures.names][:3] == list(FILES)[:3]
    assert {reason for _, reason in pictures.names} == {""}
    found = {path.name: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert found == {f"{number:06d}": data for number, data in enumerate(FILES.values())}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "pictures"]


def test_links_and_devices_are_no_pictures(tmp_path: Path) -> None:
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    pictures = unpacked(tar({"a.png": b"a"}, *(of_kind(kind, "x.png") for kind in kinds)), tmp_path)
    assert [name for name, _ in pictures.names] == ["a.png"]


@pytest.mark.parametrize("pack", [tar, zipped])
def test_what_is_too_large_is_left_out_or_refused(pack: object, tmp_path: Path) -> None:
    data = pack({"small": b"s" * 10, "large": bytes(5_000_000), "last": b"l"})  # type: ignore[operator]
    pictures = unpacked(data, tmp_path, upload_bytes=1000)
    assert [bool(reason) for _, reason in pictures.names] == [False, True, False]
    assert "send at most 1,000 bytes" in pictures.names[1][1]
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["000000", "000002"]
    for bounds, code in (({"job_bytes": 100_000}, "bytes"), ({"job_pictures": 2}, "pictures")):
        with pytest.raises(Refusal) as refused:
            unpacked(data, tmp_path, **bounds)
        assert (refused.value.status, refused.value.code) == (413, code)
    with pytest.raises(Refusal, match="more than 4 entries"):
        unpacked(tar({}, *(of_kind(tarfile.DIRTYPE, f"{number}") for number in range(5))), tmp_path, job_pictures=1)


def test_a_picture_that_is_damaged_in_a_zip_is_one_without_an_answer(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": b"a" * 40, "b.png": b"b" * 40, "c.png": b"c" * 40}))
    place = data.index(b"b.png") + 5
    data[place : place + 2] = b"\xff\xff"  # of the packed bytes
    pictures = unpacked(bytes(data), tmp_path)
    assert [bool(reason) for _, reason in pictures.names] == [False, True, False]
    assert "cannot be read from the archive" in pictures.names[1][1]


def test_an_encrypted_picture_is_one_without_an_answer(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.png": b"a"}))
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.rindex(mark) + offset] |= 1
    assert unpacked(bytes(data), tmp_path).names[0][1].startswith("the picture cannot be read from the archive")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 5000,
        b"PK\x03\x04" + bytes(100),
        tar({"a.png": b"a" * 5000})[:3000],
        tar({"a.png": b"a"}).replace(b"a.png", b"b.png"),
        tar({"n" * (AT_ONCE + 1): b"a"}),
        b"\x1f\x8b" + bytes(100),
    ],
)
def test_damaged_archives_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        unpacked(data, tmp_path)
    assert (refused.value.status, refused.value.code) == (400, "archive")
