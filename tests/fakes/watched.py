"""One-line builders of services to collect for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fakes.builders import TTFT_500MS, service
from penstock.metrics_source.identity import Watched
from penstock.model.spec import (
    CustomQuery,
    EngineSpec,
    EngineType,
    Metric,
    Objective,
    ServiceKey,
    Signal,
    TargetRef,
)

P50_AND_P95 = tuple(Objective(metric, each, 1.0) for metric in Metric for each in (0.5, 0.95))


def watched(
    name: str,
    *pods: str,
    engine: EngineType = EngineType.VLLM,
    objectives: Sequence[Objective] = (TTFT_500MS,),
    queries: dict[Signal, str] | None = None,
    namespace: str = "prod",
) -> Watched:
    """A service with a Deployment of its name."""
    own = tuple(CustomQuery(signal, promql) for signal, promql in (queries or {}).items())
    spec = replace(
        service(objectives=tuple(objectives)),
        key=ServiceKey(namespace, name),
        target=TargetRef("apps", "Deployment", name),
        engine=EngineSpec(type=engine, queries=own),
    )
    return Watched(spec, pods=frozenset(pods))


def custom(name: str, queries: dict[Signal, str], *, namespace: str = "prod") -> Watched:
    """A service that is read by its own queries only."""
    return watched(name, engine=EngineType.CUSTOM, queries=queries, namespace=namespace)
