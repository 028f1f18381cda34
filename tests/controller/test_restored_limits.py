"""Limits after a restart: what the status shows of them stays in force until the model is solved again."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.controller.restore import restored_memory
from penstock.model.spec import Mode
from penstock.model.traffic import FleetLimit
from penstock.policy.admission import AdmissionMemory

CONDITION = {
    "type": "AdmissionLimited",
    "status": "True",
    "reason": "AdmissionLimited",
    "message": "392 in flight allowed",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-11-21T10:00:00Z",
}


@pytest.mark.parametrize(
    ("status", "memory"),
    [
        (
            {
                "admission": {"mode": "Enforce", "runningPerReplica": 95, "queuedPerReplica": 3},
                "conditions": [CONDITION],
            },
            AdmissionMemory.restored(FleetLimit(95, 3), Mode.ENFORCE, "AdmissionLimited"),
        ),
        (
            {"admission": {"mode": "Observe", "runningPerReplica": 95, "queuedPerReplica": 0}},
            AdmissionMemory.restored(FleetLimit(95, 0), Mode.OBSERVE, ""),
        ),
        ({"admission": {"mode": "Enforce", "maxInFlight": 392}}, AdmissionMemory()),
        # Written by hand: a limit of zero would refuse every request.
        (
            {"admission": {"mode": "Enforce", "runningPerReplica": 0, "queuedPerReplica": 3}},
            AdmissionMemory(),
        ),
        (
            {"admission": {"mode": "Enforce", "runningPerReplica": "x", "queuedPerReplica": 3}},
            AdmissionMemory(),
        ),
        ({}, AdmissionMemory()),
    ],
)
def test_limits_are_read_back(status: dict[str, Any], memory: AdmissionMemory) -> None:
    assert restored_memory(status, now=1_000_000.0).admission == memory
