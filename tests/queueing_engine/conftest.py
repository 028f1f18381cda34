"""The reference replica of theory.md: the CAL row, with the lengths of a real hour of conversations."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from penstock.model.profiles import profile_named
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def reference() -> EngineProfile:
    return profile_named("llama-3.1-8b-h100")


@pytest.fixture(scope="session")
def conversations() -> np.ndarray:
    """Columns arrival_s, input_tokens, output_tokens."""
    with gzip.open(DATA / "azure23_conv.csv.gz", "rt") as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1)


@pytest.fixture(scope="session")
def conversation_shape(conversations: np.ndarray) -> TrafficShape:
    return TrafficShape.from_lengths(conversations[:, 1], conversations[:, 2])


@pytest.fixture(scope="session")
def replica(reference: EngineProfile, conversation_shape: TrafficShape) -> ReplicaModel:
    return ReplicaModel(reference, conversation_shape)


@pytest.fixture(scope="session")
def measured() -> list[dict[str, str]]:
    """Open-loop points of a real vLLM (constant arrivals)."""
    with (DATA / "measured_openloop_llama31_8b_vllm.csv").open() as lines:
        return [row for row in csv.DictReader(lines) if row["strategy"].startswith("constant@")]
