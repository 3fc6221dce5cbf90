from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nda_index

# Not scipy: numba imports it where it is installed.
OPTIONAL = (
    "faiss", "ray", "fastapi", "starlette", "uvicorn", "httpx", "prometheus_client", "diffusers", "triton",
    "matplotlib", "skimage",
)  # fmt: skip


def imported(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.split()}


def test_importing_the_package_imports_nothing_optional() -> None:
    assert not imported("import nda_index").intersection(OPTIONAL)


def test_the_command_line_and_the_client_import_nothing_else_optional() -> None:
    assert not imported("import nda_index.cli.app").intersection(OPTIONAL)
    assert imported("import nda_index.client").intersection(OPTIONAL) == {"httpx"}


def test_the_test_above_can_fail() -> None:
    assert "faiss" in imported("import nda_index, faiss")


def test_public_names_are_listed_and_sorted() -> None:
    assert sorted(nda_index.__all__) == nda_index.__all__
    assert all(hasattr(nda_index, name) for name in nda_index.__all__)
    assert (Path(nda_index.__file__).parent / "py.typed").exists()


def test_a_missing_faiss_names_the_remedy() -> None:
    code = (
        "import sys; sys.modules['faiss'] = None\n"
        "import numpy, nda_index, tempfile\n"
        "try: nda_index.build_index(numpy.zeros((2, 8, 8, 3), 'uint8'), tempfile.mkdtemp())\n"
        "except nda_index.MissingDependencyError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'nda-index[cpu]'" in result.stdout


def test_files_stay_short() -> None:
    root = Path(nda_index.__file__).parents[1]
    ours = [path for folder in ("nda_index", "tests", "benchmarks", "tools") for path in (root / folder).rglob("*.py")]
    assert len(ours) > 30
    assert [path.name for path in ours if len(path.read_text().splitlines()) > 500] == []
