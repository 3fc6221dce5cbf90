"""Import every module, build a small index and query it: what must work on every version of Python.

On the way Numba compiles the kernels and keeps them, so that what runs next does not compile them again.
"""

from __future__ import annotations

import importlib
import pkgutil
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

import nda_index as nda


def main() -> int:
    """Run the smoke test; the exit code is 1 if the index does not find the image that it is given."""
    skipped = import_all()
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        index = nda.build_index(images, Path(folder) / "small.nda", image_size=16, scales=[nda.Scale(5)])
        # At timestep 1 distances are computed in float64, by other kernels than at 50.
        found = [int(index.attribute(images[7], timestep=timestep, top=3).image_ids[0]) for timestep in (50, 1)]
    right = found == [7, 7]
    print(f"Python {platform.python_version()}: {'answers' if right else 'FINDS THE WRONG IMAGE'}", end="")
    print(
        f"; SKIPPED modules whose packages are missing: {', '.join(skipped)}" if skipped else "; every module imports"
    )
    return int(not right)


def import_all() -> list[str]:
    """Import every module of nda_index, and return the names of those whose optional packages are missing."""
    skipped = []
    for module in pkgutil.walk_packages(nda.__path__, "nda_index."):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            if error.name is None or error.name.startswith("nda_index"):
                raise
            skipped.append(module.name)
    return skipped


if __name__ == "__main__":
    sys.exit(main())
