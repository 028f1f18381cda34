"""Policies by name, each made for one scenario and one run.

A name stands for documented defaults. What its documentation leaves to the user is the one knob of
`KNOBS`, set by a keyword: `policy("hpa-queue", scenario, queue=1.0)`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.sim.policies.apa import Apa
from penstock.sim.policies.clairvoyant import Clairvoyant
from penstock.sim.policies.dynamo import LOAD_SECONDS, Dynamo
from penstock.sim.policies.hpa import Hpa
from penstock.sim.policies.keda import STACK_BEHAVIOR, Keda, KedaEpp
from penstock.sim.policies.kpa import Kpa
from penstock.sim.policies.kthena import Kthena
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policies.ray_serve import RayServe
from penstock.sim.policies.sizing import table_of
from penstock.sim.policies.skyserve import SkyServe
from penstock.sim.policies.slo_keda import SloKeda
from penstock.sim.policies.static_sizes import static_mean, static_peak
from penstock.sim.policies.token_aware import TokenAware
from penstock.sim.policies.wva_saturation import WvaSaturation
from penstock.sim.policies.wva_tokens import WvaTokens
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.scenario import Scenario

Factory = Callable[..., ScalingPolicy]


class UnknownPolicy(ValueError):  # noqa: N818 - named for what it says
    """A policy name, or a tuning of one, that does not exist; the message names those that do."""


def policy(name: str, scenario: Scenario, **tuning: Any) -> ScalingPolicy:
    """Return a new policy for one run of `scenario`; `tuning` are the keywords of its factory.

    Raises UnknownPolicy with the closest names.
    """
    check_settings(name, tuning)
    return _FACTORIES[name](scenario, **tuning)


def check_settings(name: str, settings: Iterable[str]) -> None:
    """Raise UnknownPolicy for a policy, or a setting of it, that does not exist."""
    factory = _FACTORIES.get(name)
    if factory is None:
        close = difflib.get_close_matches(name.lower(), _FACTORIES, n=3, cutoff=0.0)
        raise UnknownPolicy(f"no policy is named {name!r}; the closest are {', '.join(close)}")
    known = [each for each in inspect.signature(factory).parameters if each != "scenario"]
    for each in settings:
        if each not in known:
            can = ", ".join(known) or "nothing"
            raise UnknownPolicy(f"policy {name!r} has no setting {each!r}; it has {can}")


def names() -> tuple[str, ...]:
    """Return all names, ours first, then peers, then bounds."""
    return tuple(_FACTORIES)


def _penstock(
    scenario: Scenario,
    *,
    percentile: float = 0.95,
    objective_ratio: float = 1.0,
    scale_down_window_seconds: float = 300.0,
) -> ScalingPolicy:
    settings = Settings(
        percentile=percentile,
        objective_ratio=objective_ratio,
        scale_down_window_seconds=scale_down_window_seconds,
    )
    return Penstock(scenario, settings)


def _hpa_queue(scenario: Scenario, *, queue: float = 2.0) -> ScalingPolicy:
    return Hpa("HPA queue", {"queue": queue})


def _hpa_kv(scenario: Scenario, *, kv: float = 0.7) -> ScalingPolicy:
    return Hpa("HPA KV cache", {"kv": kv})


def _hpa_concurrency(scenario: Scenario, *, concurrency: float = 32.0) -> ScalingPolicy:
    return Hpa("HPA concurrency", {"concurrency": concurrency})


def _hpa_max(
    scenario: Scenario, *, queue: float = 2.0, kv: float = 0.7, concurrency: float = 32.0
) -> ScalingPolicy:
    return Hpa("HPA max of three", {"queue": queue, "kv": kv, "concurrency": concurrency})


def _keda(scenario: Scenario, *, queue: float = 2.0, concurrency: float = 32.0) -> ScalingPolicy:
    return Keda("KEDA queue, concurrency", {"queue": queue, "concurrency": concurrency})


def _production_stack(scenario: Scenario, *, running: float = 5.0) -> ScalingPolicy:
    thresholds = {"running": running, "prompt_tokens": 20.0 * running, "generation_tokens": 20.0 * running}
    return Keda("vLLM production stack", thresholds, STACK_BEHAVIOR)


def _keda_epp(scenario: Scenario, *, running: float = 16.0, queue: float = 1.0) -> ScalingPolicy:
    return KedaEpp(running=running, queue=queue)


def _kpa(scenario: Scenario, *, target: float = 70.0) -> ScalingPolicy:
    return Kpa(target=target)


def _apa(scenario: Scenario, *, kv: float = 0.5) -> ScalingPolicy:
    return Apa(kv=kv)


def _wva_v1(scenario: Scenario, *, kv: float = 0.8, queue: float = 5.0) -> ScalingPolicy:
    return WvaSaturation(kv=kv, queue=queue)


def _wva_v2(scenario: Scenario, *, up_at: float = 0.85) -> ScalingPolicy:
    return WvaTokens(scenario.profile, up_at=up_at)


def _slo_keda(scenario: Scenario, *, up_at: float = 0.55, percentile: float = 0.9) -> ScalingPolicy:
    return SloKeda(scenario.slo, up_at=up_at, percentile=percentile)


def _token_aware(scenario: Scenario, *, kv: float = 0.8, drain_seconds: float = 1.5) -> ScalingPolicy:
    return TokenAware(scenario.profile, kv=kv, drain_seconds=drain_seconds)


def _dynamo(scenario: Scenario, *, itl_ratio: float = 1.0) -> ScalingPolicy:
    return Dynamo(scenario.profile, scenario.slo, itl_ratio=itl_ratio)


def _dynamo_load(scenario: Scenario, *, itl_ratio: float = 1.0) -> ScalingPolicy:
    return Dynamo(scenario.profile, scenario.slo, itl_ratio=itl_ratio, load_loop_seconds=LOAD_SECONDS)


def _ray(scenario: Scenario, *, ongoing: float = 2.0) -> ScalingPolicy:
    return RayServe(ongoing=ongoing)


def _sky(scenario: Scenario, *, ratio: float = 1.0) -> ScalingPolicy:
    return SkyServe(qps=ratio * table_of(scenario).max_rate(1))


def _kthena(scenario: Scenario, *, share: float = 1.0) -> ScalingPolicy:
    return Kthena(scenario.slo, share=share)


_FACTORIES: Mapping[str, Factory] = {
    "penstock": _penstock,
    "hpa-queue": _hpa_queue,
    "hpa-kv": _hpa_kv,
    "hpa-concurrency": _hpa_concurrency,
    "hpa-max": _hpa_max,
    "keda": _keda,
    "keda-llm-d": _keda_epp,
    "production-stack": _production_stack,
    "kpa": _kpa,
    "apa": _apa,
    "wva-v1": _wva_v1,
    "wva-v2": _wva_v2,
    "slo-keda": _slo_keda,
    "token-aware": _token_aware,
    "dynamo": _dynamo,
    "dynamo-load": _dynamo_load,
    "ray": _ray,
    "skyserve": _sky,
    "kthena": _kthena,
    "static-peak": static_peak,
    "static-mean": static_mean,
    "clairvoyant": Clairvoyant,
}

# The knob that each policy's documentation leaves to its user, from bold to careful. It is swept for the
# frontier of cost and attainment.
KNOBS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "penstock": ("scale_down_window_seconds", (60.0, 150.0, 600.0)),
    "hpa-queue": ("queue", (8.0, 2.0, 0.5, 0.1)),
    "hpa-kv": ("kv", (0.7, 0.5, 0.35, 0.25, 0.15)),
    "hpa-concurrency": ("concurrency", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "hpa-max": ("concurrency", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "keda": ("concurrency", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "keda-llm-d": ("running", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "production-stack": ("running", (96.0, 64.0, 32.0)),
    "kpa": ("target", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "apa": ("kv", (0.7, 0.5, 0.35, 0.25, 0.15)),
    "wva-v1": ("kv", (0.8, 0.6, 0.45, 0.35, 0.25)),
    "wva-v2": ("up_at", (0.85, 0.6, 0.45, 0.3)),
    "slo-keda": ("up_at", (0.9, 0.7, 0.55, 0.45, 0.35)),
    "token-aware": ("kv", (0.8, 0.6, 0.4, 0.3, 0.2)),
    "dynamo": ("itl_ratio", (1.0, 0.8, 0.6, 0.5, 0.4)),
    "dynamo-load": ("itl_ratio", (1.0, 0.8, 0.6, 0.5, 0.4)),
    "ray": ("ongoing", (128.0, 96.0, 64.0, 48.0, 32.0)),
    "skyserve": ("ratio", (1.2, 1.0, 0.8, 0.65, 0.5)),
    "kthena": ("share", (1.0, 0.8, 0.6, 0.4)),
    "static-peak": ("ratio", (0.6, 0.8, 1.0)),
    "clairvoyant": ("ratio", (1.0, 1.1, 1.25, 1.5, 2.0)),
}
