from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def conversations() -> np.ndarray:
    """A real hour: columns arrival_s, input_tokens, output_tokens."""
    path = Path(__file__).parents[1] / "data" / "azure23_conv.csv.gz"
    with gzip.open(path, "rt") as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1)
