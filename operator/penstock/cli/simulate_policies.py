"""``--policy a,b:knob=1``: names and settings of policies, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock.cli.plan_fault import PlanFault
from penstock.cli.simulate_question import judged
from penstock.model.spec import Metric, ServiceSpec

if TYPE_CHECKING:
    from penstock.sim.policy_port import ScalingPolicy
    from penstock.sim.scenario import Scenario

OURS = "penstock"
LEAST = 1e-6  # a threshold of 5e-324 is above 0, and what is divided by it is not finite
MOST_PERCENTILE = 0.999  # p99.9: as far as the model's distributions go


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy as it was asked for; `text` is what tables call it."""

    text: str
    name: str
    tuning: Mapping[str, float] = field(default_factory=dict)


def policies_of(text: str) -> list[Asked]:
    """Parse ``penstock,hpa-queue:queue=0.5``. Raises PlanFault for a name or a value that cannot be."""
    from penstock.sim.policies.registry import UnknownPolicy, check_settings, names

    asked: list[Asked] = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, *settings = part.split(":")
        if name not in names():
            raise PlanFault(f"no policy is named {name!r}", f"write some of {', '.join(names())}")
        tuning = dict(_setting(part, each) for each in settings)
        try:
            check_settings(name, tuning)
        except UnknownPolicy as error:
            raise PlanFault(
                f"--policy {part}: {error}", "leave the setting out, or correct its name"
            ) from error
        for setting, value in tuning.items():
            _require_usable(part, setting, value)
        if part not in [each.text for each in asked]:
            asked.append(Asked(part, name, tuning))
    if not asked:
        raise PlanFault("no policy is named", f"write some of {', '.join(names())}")
    return asked


def build(asked: Asked, spec: ServiceSpec, scenario: Scenario) -> ScalingPolicy:
    """Return a policy for one run; ours as the service's file says where `asked` sets nothing else."""
    from penstock.sim.policies.penstock import Penstock, Settings
    from penstock.sim.policies.penstock_gateway import GatewaySettings, PenstockWithGateway
    from penstock.sim.policies.registry import policy

    if asked.name != OURS:
        return policy(asked.name, scenario, **asked.tuning)
    written = Settings(
        percentile=max(judged(spec, each).percentile for each in (Metric.TTFT, Metric.TPOT)),
        spare=spec.replicas.spare,
        scale_down_window_seconds=spec.replicas.scale_down_window_seconds,
        initial_startup_seconds=spec.replicas.initial_startup_seconds,
        max_added_per_minute=spec.replicas.max_added_per_minute,
        # A percentile that is tried takes the place of those in the file.
        slo=None if "percentile" in asked.tuning else spec.slo,
    )
    tuned: Mapping[str, Any] = asked.tuning  # check_settings knows their names
    settings = replace(written, **tuned)
    if scenario.admission is None:
        return Penstock(scenario, settings)
    return PenstockWithGateway(scenario, settings, GatewaySettings(admission=spec.admission))


def _setting(part: str, text: str) -> tuple[str, float]:
    name, mark, value = text.partition("=")
    try:
        return name, float(value if mark else "")
    except ValueError:
        raise PlanFault(
            f"--policy {part}: {text!r} is no setting", "write it as hpa-queue:queue=0.5"
        ) from None


def _require_usable(part: str, setting: str, value: float) -> None:
    """Raise PlanFault for a value that no policy can work with."""
    most = MOST_PERCENTILE if setting == "percentile" else math.inf
    if not LEAST <= value <= most or math.isinf(value):
        bounds = f"from {LEAST:g} to {most:g}" if most < math.inf else f"a finite number from {LEAST:g} on"
        raise PlanFault(
            f"--policy {part}: {setting} is {value:g}, not {bounds}",
            "correct the value, or leave the setting out",
        )
