"""Service files and traces for ``penstock simulate``, and its answer as a value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml
from click.testing import Result


def service(path: Path, **spec: Any) -> Path:
    """Write the file of a service ``prod/chat``."""
    body = {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": "prod"},
        "spec": {
            "mode": "Enforce",
            "workload": {
                "type": "Target",
                "targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"},
                "serviceRef": {"name": "chat"},
            },
            "slo": {"ttft": {"p95": "500ms"}, "tpot": {"p95": "50ms"}},
            "engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-h100"}},
            "replicas": {"min": 1, "max": 4, "initialStartup": "30s"},
            "cost": {"perReplicaHour": "4.00", "currency": "USD"},
        }
        | spec,
    }
    path.write_text(yaml.safe_dump(body))
    return path


def trace(path: Path, rows: Sequence[tuple[float, int, int]] | None = None) -> Path:
    """Write a trace; by default 4 requests a second for ten minutes, lengths by chance."""
    if rows is None:
        random = np.random.default_rng(3)
        lengths = random.integers(20, 400, (2400, 2)).tolist()
        rows = [(index / 4, *pair) for index, pair in enumerate(lengths)]
    lines = [f"{at},{prompt},{answer}" for at, prompt, answer in rows]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *lines]) + "\n")
    return path


def answer(result: Result) -> Any:
    """Return the JSON on standard output; a run that failed has none."""
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout_bytes)
