"""Machine code for the simulation's loops, compiled once and kept in the user's cache.

numba's cache looks at the file of the function it keeps, not at those it calls or takes constants from:
an edit of one would leave the others with the old one inlined. So the cache has a directory for every
state of these sources. Without the extra `sim` the import fails with a line that says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

try:
    import numba
except ImportError as error:  # pragma: no cover - an environment without the extra
    raise ImportError("the fleet simulation needs numba: pip install 'penstock[sim]'") from error

Function = TypeVar("Function", bound=Callable[..., object])
_PACKAGE = Path(__file__).parents[1]
# What is compiled, and what it takes constants from.
_SOURCES = (
    "sim/compiled.py", "sim/engine.py", "sim/fleet.py", "sim/series.py", "sim/state.py",
    "engine/batch_loop.py", "engine/vllm_metrics.py",
)  # fmt: skip


def _cache_directory() -> Path:
    digest = hashlib.sha256(numba.__version__.encode())
    for source in _SOURCES:
        digest.update((_PACKAGE / source).read_bytes())
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "penstock" / f"kernels-{digest.hexdigest()[:16]}"


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(_cache_directory())


def compiled(function: Function) -> Function:
    """Return `function` as machine code; compiled at its first call, a few seconds, then from the cache."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))
