"""One run of ``penstock plan`` as a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"


@dataclass(frozen=True)
class Ran:
    """What the run left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def plan(self) -> dict[str, Any]:
        """The plan on standard output; a run that failed has none."""
        assert self.exit_code == 0, self.stderr
        return json.loads(self.stdout)  # type: ignore[no-any-return]


Run = Callable[..., Ran]
