"""Pack what a machine with a GPU and torch alone needs to check and time the exact stage: a folder, or a .tar.gz.

    python -m tools.gpu_kit kit.tar.gz            # below a megabyte
    python -m tools.gpu_kit kit --faiss           # with FAISS for CUDA, some 20 MiB, which pip fetches

There, in the unpacked folder: `python -m benchmarks.gpu`. Python needs torch with Triton, NumPy and Pillow.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.gpu_faiss import ARCHIVE, pack_faiss

ROOT = Path(__file__).parents[1]
LARGEST = 64 << 20  # bytes
GUIDE = """Check and time the exact stage on a GPU. Needs Python with torch, Triton, NumPy and Pillow. In this
folder, each as a process of its own, since an illegal access takes the card from all that follows:

    python -m benchmarks.gpu --out .                                      # two minutes; writes gpu.json
    python -m benchmarks.gpu --quick                                      # the targets alone
    python -m benchmarks.gpu --lists                                      # the lists of the coarse stage alone
    python -m benchmarks.gpu.question --out .                             # from a picture to its answer; with Numba
    compute-sanitizer --tool memcheck python -m benchmarks.gpu.small      # every access of the kernels
    python -m benchmarks.gpu.resources                                    # registers, without a card
"""
FAISS_GUIDE = f"""
FAISS is timed too once it is unpacked here: tar -xJf {ARCHIVE}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack the kit, and print its size; the exit code is 1 where it is too large to travel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder that is not there yet, or a file NAME.tar.gz")
    parser.add_argument("--faiss", action="store_true", help="with FAISS for CUDA; needs gcc and pip")
    parser.add_argument("--wheel", type=Path, help="of faiss-gpu, in place of one that pip fetches")
    parser.add_argument("--arch", type=int, default=90, help="of the card, whose machine code is kept: 90 is Hopper")
    options = parser.parse_args(arguments)
    if options.out.exists():
        parser.error(f"{options.out} exists; name another, or remove it")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "kit")
        copy_files(folder)
        if options.faiss or options.wheel:
            pack_faiss(folder, options.wheel, options.arch)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > LARGEST:
            print(f"the kit has {size >> 20} MiB, above {LARGEST >> 20}; leave --faiss out", file=sys.stderr)
            return 1
        if options.out.name.endswith(".tar.gz"):
            with tarfile.open(options.out, "w:gz") as archive:
                archive.add(folder, ".")
        else:
            shutil.copytree(folder, options.out)
    print(f"{options.out}: {size / 2**20:.1f} MiB unpacked")
    return 0


def copy_files(folder: Path) -> None:
    """Copy the package, the benchmark and a guide to a new folder."""
    for path in list_files():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    folder.joinpath("GUIDE.txt").write_text(GUIDE)


def list_files() -> list[Path]:
    """Return the files of a kit in this checkout: of the package what Python imports."""
    parts = [ROOT / "nda_index", ROOT / "benchmarks" / "gpu"]
    return [ROOT / "LICENSE", ROOT / "benchmarks" / "__init__.py", *(p for part in parts for p in part.rglob("*.py"))]


if __name__ == "__main__":
    sys.exit(main())
