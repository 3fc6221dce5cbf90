"""The kit for a machine with a GPU holds what it needs, and runs where little but torch is installed."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools import gpu_kit
from tools.gpu_faiss import FATBIN, FUNCTIONS, build_forwarder, keep_machine_code
from tools.gpu_kit import LARGEST, main

MISSING = ("lancedb", "lance", "pyarrow", "faiss", "numba", "llvmlite", "pandas", "scipy", "typer", "fastapi")


def unpack_kit(folder: Path) -> None:
    """Pack the kit, check its size, and unpack it to `folder`/kit."""
    assert main([str(folder / "kit.tar.gz")]) == 0
    with tarfile.open(folder / "kit.tar.gz") as archive:
        archive.extractall(folder / "kit", filter="data")
    files = [path for path in (folder / "kit").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert not any("__pycache__" in path.parts for path in files)


def run_alone(folder: Path, module: str, missing: tuple[str, ...], *options: str) -> None:
    """Run a module in a folder, where some packages are not installed."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing}));"
        f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "OUT")}
    environment["OMP_NUM_THREADS"] = "1"  # the interpreter has one thread; others would wait on a core of another test
    run = subprocess.run(
        [sys.executable, "-c", code, *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


def test_the_tiny_benchmark_runs_from_the_kit_alone(tmp_path: Path) -> None:
    unpack_kit(tmp_path)
    run_alone(tmp_path / "kit", "benchmarks.gpu", MISSING, "--tiny", "--seconds", "500", "--out", "out")
    results = json.loads((tmp_path / "kit" / "out" / "gpu.json").read_text())
    assert results["errors"] == {}
    rows = {row["name"]: row for row in results["rows"]}
    checks = [row for name, row in rows.items() if name.startswith("check ") and "by" in row]
    assert len(checks) == 6 and all(row["by"] == "products" and row["error"] < 1e-4 for row in checks)
    assert {
        "3 clean, 3 images",
        "2 images, two terms",
        "published, 3, 3 images",
        "8 x 8, patch 3, stride 2, 2 images",
        "lists, bytes, sharp, 4 images",
        "lists, pq, broad, 4 images",
    } <= {*rows}
    lists = [row for name, row in rows.items() if name.startswith("lists against float64") and "by" in row]
    assert len(lists) == 4 and all(row["by"] == "gpu" and max(row["error"], row["votes"]) < 1e-4 for row in lists)


def test_a_whole_question_is_answered_without_tables_and_faiss(tmp_path: Path) -> None:
    missing, out = ("lancedb", "lance", "faiss", "ray", "fastapi"), str(tmp_path)
    run_alone(gpu_kit.ROOT, "benchmarks.gpu.question", missing, "--tiny", "--images", "12", "--out", out)
    results = json.loads((tmp_path / "question.json").read_text())
    assert results["errors"] == {}
    compared, _, asked, *parts = results["rows"]
    assert compared["alike"] == 10 and compared["error"] < 1e-4
    assert asked["backend"] == asked["coarse_backend"] == "gpu" and asked["scored"] == 12
    assert [part["name"].strip() for part in parts] == ["coarse", "pixels"]


def test_what_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "exists; name another" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_kit_that_is_too_large_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_kit, "LARGEST", 1 << 16)
    assert main([str(tmp_path / "kit")]) == 1
    assert "leave --faiss out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def fatbin(*entries: tuple[int, int, bytes]) -> bytes:
    """Machine code for several cards: kind, card and code of each."""
    parts = [struct.pack("<HHIQ12xI32x", kind, 0, 64, len(code), card) + code for kind, card, code in entries]
    return FATBIN + struct.pack("<HHQ", 1, 16, sum(map(len, parts))) + b"".join(parts)


def test_machine_code_of_one_card_is_kept() -> None:
    entries = [(2, 80, b"eight" * 5), (2, 90, b"nine" * 7), (1, 90, b"ptx" * 9)]
    zeros = [(2, 80, bytes(25)), (2, 90, b"nine" * 7), (1, 90, bytes(27))]
    by_chance = FATBIN + b"not the beginning of a fatbin"
    library = b"code" + fatbin(*entries) + by_chance + fatbin(*entries[:2]) + b"end"
    assert keep_machine_code(library, 90) == b"code" + fatbin(*zeros) + by_chance + fatbin(*zeros[:2]) + b"end"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
def test_the_small_library_has_what_faiss_calls(tmp_path: Path) -> None:
    build_forwarder(tmp_path)
    library = ctypes.CDLL(str(tmp_path / "libcublas.so.12"))
    assert all(hasattr(library, f"cublas{name}") for name in FUNCTIONS)
    assert (tmp_path / "libcublasLt.so.12").exists()


def test_kernels_fit_a_card_that_is_not_there() -> None:
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        pytest.skip("Triton is not installed here")
    programs = Path(triton.origin).parent / "backends" / "nvidia" / "bin"
    lacking = [name for name in ("ptxas", "cuobjdump") if not (programs / name).exists()]
    if lacking:
        pytest.skip(f"this Triton cannot compile for a card that is not there: it has no {' and no '.join(lacking)}")
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.resources", "--quick"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    kernels = run.stdout.splitlines()
    assert len(kernels) == 13
    for kernel in kernels:
        words = kernel.split()
        used = {words[i + 1]: int(words[i]) for i in range(len(words) - 6, len(words), 2)}
        assert used["registers"] <= (168 if "inside" in kernel or "tf32x3" in kernel else 128), kernel
        assert used["shared"] <= 227 << 10, kernel  # what a program of a Hopper card may have
        assert used["stack"] <= 1024, kernel  # registers that did not fit
