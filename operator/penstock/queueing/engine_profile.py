"""An engine on its hardware: the step law, what its memory holds, and where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.queueing.errors import InvalidParameter
from penstock.queueing.step_law import StepLaw

# Real b=1 TTFT is about this much longer than the kernels: HTTP, tokenising, scheduling (CAL row).
DEFAULT_FRONTEND_SECONDS = 0.0103


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One replica of one model: timing, limits, provenance. `gpus` are per replica."""

    name: str
    step_law: StepLaw
    kv_capacity_tokens: float
    frontend_seconds: float = DEFAULT_FRONTEND_SECONDS
    max_sequences: int = 256
    step_token_budget: int = 8192
    gpus: int = 1
    kv_bytes_per_token: float | None = None  # on each of the GPUs; None: not stated
    gpu: str = ""
    model: str = ""
    precision: str = ""
    source: str = ""
    measured_points: int = 0  # real measurements behind `measured_error_percent`
    measured_error_percent: float | None = None  # median absolute error against them

    def __post_init__(self) -> None:
        for name in ("kv_capacity_tokens", "max_sequences", "step_token_budget", "gpus"):
            if not getattr(self, name) >= 1:
                raise InvalidParameter(name, f"must be at least 1, got {getattr(self, name)!r}")
        if not self.frontend_seconds >= 0:
            raise InvalidParameter("frontend_seconds", f"must be >= 0, got {self.frontend_seconds!r}")

    def at_speed(self, factor: float) -> EngineProfile:
        """Return the profile of the same engine when every step takes `factor` times as long."""
        return self if factor == 1.0 else replace(self, step_law=self.step_law.scaled(factor))
