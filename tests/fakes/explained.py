"""A live InferenceService in the midst of a canary, as the API server would return it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from penstock.model.conditions import parse_timestamp

SAMPLE = Path(__file__).parents[2] / "manifests" / "samples" / "chat.yaml"
SINCE = "2026-11-21T14:00:00Z"
NOW = parse_timestamp(SINCE) + 180.0
CONDITIONS = (
    ("Ready", "True", "Enforcing", "accepted"),
    ("Accepted", "True", "Accepted", "accepted"),
    ("MetricsAvailable", "False", "PartialReporting", "3 of 4 ready pods report: chat-1 does not"),
    ("ObjectivesMet", "True", "ObjectivesMet", "all percentiles are inside"),
    ("ScalingLimited", "False", "NotLimited", "nothing but the objectives decides"),
    ("AdmissionLimited", "False", "WithinLimit", "at most 392 in flight: 4 times 78 running and 20 queued"),
    ("FallbackActive", "False", "NoFallback", "spec.fallback is not set"),
    ("CanaryHealthy", "Unknown", "Testing", "20 % of the requests; a verdict takes about 480 more, 45s"),
)
ROWS = (
    {
        "metric": "errors",
        "stableRequests": 4000,
        "stableBad": 4,
        "canaryRequests": 210,
        "canaryBad": 3,
        "ratio": "14.3",
        "interval": "3.1 to 66",
        "againstPercent": 74,
        "forPercent": 0,
    },
    {
        "metric": "ttft",
        "edge": "500ms",
        "stableRequests": 3996,
        "stableBad": 180,
        "canaryRequests": 207,
        "canaryBad": 9,
        "ratio": "0.97",
        "interval": "0.5 to 1.9",
        "againstPercent": 0,
        "forPercent": 112,
    },
    {"metric": "tpot", "missing": "no fresh series of it on the canary arm"},
)
STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "replicas": {"current": 4, "ready": 4, "desired": 5, "summary": "4/5"},
    "load": {"arrivalRate": "57.2", "utilizationPercent": 78, "ttftP95": "310ms", "source": "Gateway"},
    "admission": {
        "mode": "Enforce",
        "maxInFlight": 392,
        "runningPerReplica": 78,
        "queuedPerReplica": 20,
        "shedPercent": 0,
    },
    "objectives": [
        {"name": "ttft.p95", "target": "500ms", "measured": "310ms", "budgetRemainingPercent": 93},
        {"name": "tpot.p95", "target": "40ms"},
    ],
    "learned": {
        "warmStartSeconds": 95,
        "speedRatio": "1.08",
        "inputTokens": 1155,
        "inputScv": "1",
        "outputTokens": 211,
        "outputScv": "1",
    },
    "decision": {
        "reason": "LatencyObjective",
        "message": "5 replicas (1 of them spare): at 57.2 req/s + 2.1 expected within 2m, "
        "3 give p95 TTFT 820 ms > 500 ms, 4 give 240 ms <= 500 ms",
        "time": SINCE,
    },
    "canary": {
        "phase": "Testing",
        "since": SINCE,
        "summary": "Testing 20%",
        "revision": "next",
        "stableRevision": "now",
        "step": "2/3",
        "weightPercent": 20,
        "evidence": "errors look worse: 1.4 % of 210 canary requests failed, 0.1 % of 4,000 stable ones",
        "rejectedRevision": "before",
        "rejectedBecause": "TTFT: 9 % slower than 500 ms",
        "rows": list(ROWS),
        "memory": "{}",
    },
    "conditions": [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": 3,
            "lastTransitionTime": SINCE,
        }
        for kind, status, reason, message in CONDITIONS
    ],
}


def explained(**spec: Any) -> dict[str, Any]:
    """Return the sample of a chat service with this status; `spec` replaces sections."""
    body: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    body["metadata"] |= {"generation": 3, "uid": "u-1"}
    body["spec"] |= {
        "mode": "Enforce",
        "routing": {"type": "Envoy"},
        "canary": {"targetRef": {"group": "apps", "kind": "Deployment", "name": "chat-next"}},
        **spec,
    }
    return body | {"status": STATUS}
