"""How numbers are written in decision messages: three significant digits, units of the reader."""

from __future__ import annotations

import math

from penstock.model.spec import Metric, Objective


def seconds(value: float) -> str:
    """Write a latency: ``820 ms``, ``2.41 s``, ``unbounded``."""
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    return "unbounded" if math.isinf(value) else f"{value:.3g} s"


def span(value: float) -> str:
    """Write a duration as users write it in YAML: ``45s``, ``2m``, ``1m30s``, ``1h``."""
    whole = round(value)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{left}s" if left else ""]
    return "".join(parts) or "0s"


def rate(value: float) -> str:
    """Write a request rate without its unit: ``17.2``, ``1230``."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def objective(of: Objective) -> str:
    """Write an objective's name as people say it: ``p95 TTFT``."""
    name = "latency" if of.metric is Metric.LATENCY else of.metric.upper()
    return f"p{round(of.percentile * 100)} {name}"


def replicas(count: int) -> str:
    """Write a replica count: ``1 replica``, ``5 replicas``."""
    return f"{count} replica" if count == 1 else f"{count} replicas"


def percent(ratio: float) -> str:
    """Write a share, given as 0..1: ``18 %``, ``0.52 %``, ``100 %``."""
    value = 100 * ratio
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"
