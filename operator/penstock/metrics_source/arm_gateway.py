"""Requests and errors of an arm as the gateways count them, put where an engine's would be.

Preferred where Envoy serves: an engine that crashed, or never answered, counts no error. The counts are
sums over all proxies that grow while proxies come and go (dataplane/envoy/arm_counts.py); they begin anew
only with the operator's process, and with it the baselines. So they stand as one pod more, whose name
no pod can have.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.metrics_source.arm_types import Arm, Lack
from penstock.model.canary_counts import ArmReading, Metric, PodCounters
from penstock.model.reading import Absence
from penstock.model.traffic import ArmCount, GatewayReading

GATEWAY_POD = "(gateways)"
# The gateways are asked every second; older than this, a reading is of before the tick that uses it.
FRESH_SECONDS = 30.0


def with_gateway_counts(reading: ArmReading, count: ArmCount) -> ArmReading:
    """Return the reading with the gateways' requests and errors instead of the engines'."""
    engines = tuple(replace(pod, requests=None, errors=None) for pod in reading.pods)
    gateways = PodCounters(GATEWAY_POD, requests=count.requests, errors=count.server_errors)
    return replace(reading, pods=(*engines, gateways))


def gateway_count(gateway: GatewayReading | None, arm: Arm, at: float) -> ArmCount | Lack:
    """Return what the gateways counted for an arm as of `at` (Unix seconds), or why there is nothing."""
    if gateway is None or not gateway.proxies:
        return Lack(
            arm,
            Metric.ERRORS.value,
            Absence.NO_SERIES,
            "no gateway of this service answers: errors are counted there, see the gateway pods",
        )
    if gateway.at < at - FRESH_SECONDS:
        return Lack(
            arm,
            Metric.ERRORS.value,
            Absence.STALE,
            f"the gateways have not been read for {FRESH_SECONDS:g} s: errors are counted there, see the "
            "gateway pods",
        )
    count = gateway.stable_arm if arm is Arm.STABLE else gateway.canary_arm
    if count is None:
        return Lack(
            arm,
            Metric.ERRORS.value,
            Absence.NOT_EXPOSED,
            "the gateways do not count the two arms apart yet: they have not got the canary's route, or "
            "their Envoy has an older configuration",
        )
    return count
