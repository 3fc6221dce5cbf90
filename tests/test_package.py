from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nda_index
from nda_index import client, cluster, exact

# Not scipy: numba imports it where it is installed.
OPTIONAL = (
    "faiss", "ray", "fastapi", "starlette", "uvicorn", "httpx", "prometheus_client", "diffusers", "triton",
    "matplotlib", "skimage", "pillow_heif", "safetensors",
)  # fmt: skip


# What the project promises to its users: a name that is missing or new here is a change of the public interface.
EXPORTED = {
    nda_index: """
        AnswerFormatError Attribution ConfigError CopySummary CorruptIndexError Denoised EditSummary Estimate
        ImageDecodeError Index IndexFormatError Latent LockedError MismatchError MissingDependencyError NdaIndexError
        NotAnIndexError QueryError Scale ServiceError ShardLostError SourceError StorageError Trial Tuning
        Verdict VersionError __version__ add_images build_index compact estimate_build exact open_index
        pull_index push_index read_answer read_picture remove_images tune
    """,
    exact: "Masses image_masses image_scores merge_log_totals",
    client: "AsyncClient Client",
    cluster: "build_shards open_cluster",
}


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


@pytest.mark.parametrize("module", EXPORTED, ids=lambda module: module.__name__)
def test_exported_names_are_those_promised_and_sorted(module: ModuleType) -> None:
    assert module.__all__ == EXPORTED[module].split()
    assert module.__all__ == sorted(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_public_name_of_the_package_is_exported() -> None:
    rooms = {name for name, value in vars(nda_index).items() if getattr(value, "__name__", "") == f"nda_index.{name}"}
    public = {name for name in dir(nda_index) if not name.startswith("_")} - rooms
    assert public | {"__version__", "exact"} == set(nda_index.__all__)


def test_the_package_says_that_it_is_typed() -> None:
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
    assert [path.name for path in ours if len(path.read_text().splitlines()) > 400] == []
