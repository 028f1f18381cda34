"""``--policy a,b:knob=1``: names and settings of policies, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.cli.plan_fault import PlanFault
from penstock.cli.simulate_question import judged
from penstock.model.spec import Metric, ServiceSpec

if TYPE_CHECKING:
    from penstock.sim.policy_port import ScalingPolicy
    from penstock.sim.scenario import Scenario

OURS = "penstock"


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy as it was asked for; `text` is what tables call it."""

    text: str
    name: str
    tuning: Mapping[str, float] = field(default_factory=dict)


def policies_of(text: str) -> list[Asked]:
    """Parse ``penstock,hpa-queue:queue=0.5``. Raises PlanFault with the names that exist."""
    from penstock.sim.policies.registry import names

    asked: list[Asked] = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, *settings = part.split(":")
        if name not in names():
            raise PlanFault(f"no policy is named {name!r}", f"write some of {', '.join(names())}")
        tuning = dict(_setting(part, each) for each in settings)
        if part not in [each.text for each in asked]:
            asked.append(Asked(part, name, tuning))
    if not asked:
        raise PlanFault("no policy is named", f"write some of {', '.join(names())}")
    return asked


def build(asked: Asked, spec: ServiceSpec, scenario: Scenario) -> ScalingPolicy:
    """Return a policy for one run; ours as the service's file says. Raises PlanFault for a wrong setting."""
    from penstock.sim.policies.penstock import Penstock, Settings
    from penstock.sim.policies.penstock_gateway import GatewaySettings, PenstockWithGateway
    from penstock.sim.policies.registry import UnknownPolicy, policy

    if asked.name == OURS and not asked.tuning:
        settings = Settings(
            percentile=max(judged(spec, each).percentile for each in (Metric.TTFT, Metric.TPOT)),
            spare=spec.replicas.spare,
            scale_down_window_seconds=spec.replicas.scale_down_window_seconds,
        )
        if scenario.admission is None:
            return Penstock(scenario, settings)
        return PenstockWithGateway(scenario, settings, GatewaySettings(admission=spec.admission))
    try:
        return policy(asked.name, scenario, **asked.tuning)
    except UnknownPolicy as error:
        raise PlanFault(
            f"--policy {asked.text}: {error}", "leave the setting out, or correct its name"
        ) from error


def _setting(part: str, text: str) -> tuple[str, float]:
    name, mark, value = text.partition("=")
    try:
        return name, float(value if mark else "")
    except ValueError:
        raise PlanFault(
            f"--policy {part}: {text!r} is no setting", "write it as hpa-queue:queue=0.5"
        ) from None
