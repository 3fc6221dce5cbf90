from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import nda_index as nda


@pytest.fixture(scope="package")
def answer(index: nda.Index, pictures: NDArray[np.uint8]) -> nda.Attribution:
    return index.attribute(pictures[8], timestep=100, top=4, candidates=60)
