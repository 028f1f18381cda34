"""How the benchmarks' pictures are drawn."""

from __future__ import annotations

from typing import Any


def file_pyplot() -> Any:
    """Return pyplot for files: an SVG has the same ids every time, and its text as text (half the size)."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "penstock", "svg.fonttype": "none"})
    from matplotlib import pyplot

    return pyplot
