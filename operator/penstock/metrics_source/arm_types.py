"""What is asked of a canary's two arms at one instant, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.model.canary_counts import LATENCY_METRICS, ArmReading, Metric
from penstock.model.canary_spec import CanaryCheck
from penstock.model.reading import Absence
from penstock.model.spec import EngineType, ServiceKey
from penstock.model.traffic import GatewayReading


class Arm(StrEnum):
    """Which of the two."""

    STABLE = "Stable"
    CANARY = "Canary"


class ErrorSource(StrEnum):
    """Who counts requests and errors of a canary. One for its whole life: two would count some twice."""

    GATEWAY = "Gateway"
    ENGINE = "Engine"


@dataclass(frozen=True, slots=True)
class ArmsWanted:
    """A service with a canary under way: the names of the pods of each arm, and what is judged.

    With `errors_from` GATEWAY, `gateway` is its newest reading; None: the gateways are silent.
    """

    key: ServiceKey
    engine: EngineType
    stable_pods: frozenset[str]
    canary_pods: frozenset[str]
    metrics: tuple[Metric, ...] = (Metric.ERRORS, *LATENCY_METRICS)
    checks: tuple[CanaryCheck, ...] = ()
    errors_from: ErrorSource = ErrorSource.ENGINE
    gateway: GatewayReading | None = None

    def pods(self, arm: Arm) -> frozenset[str]:
        """Return the names of an arm's pods."""
        return self.stable_pods if arm is Arm.STABLE else self.canary_pods


@dataclass(frozen=True, slots=True)
class Lack:
    """What could not be read of an arm, and why: `what` is a metric's value or the name of a check."""

    arm: Arm
    what: str
    absence: Absence
    message: str


@dataclass(frozen=True, slots=True)
class ArmsRead:
    """Both arms; None: nothing could be read of it. `lacks` says why whatever is missing is."""

    stable: ArmReading | None
    canary: ArmReading | None
    errors_from: ErrorSource
    lacks: tuple[Lack, ...] = ()
