"""Policies by name, each made for one scenario and one run.

A name stands for documented defaults. What its documentation leaves to the user is the one knob of
`KNOBS`, set by a keyword: `policy("hpa-queue", scenario, queue=1.0)`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from penstock.sim.policies.clairvoyant import Clairvoyant
from penstock.sim.policies.hpa import Hpa
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policies.static_sizes import static_mean, static_peak
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.scenario import Scenario

Factory = Callable[..., ScalingPolicy]


class UnknownPolicy(ValueError):  # noqa: N818 - named for what it says
    """A policy name, or a tuning of one, that does not exist; the message names those that do."""


def policy(name: str, scenario: Scenario, **tuning: Any) -> ScalingPolicy:
    """Return a new policy for one run of `scenario`; `tuning` are the keywords of its factory.

    Raises UnknownPolicy with the closest names.
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        close = difflib.get_close_matches(name.lower(), _FACTORIES, n=3, cutoff=0.0)
        raise UnknownPolicy(f"no policy is named {name!r}; the closest are {', '.join(close)}")
    known = [each for each in inspect.signature(factory).parameters if each != "scenario"]
    for each in tuning:
        if each not in known:
            can = ", ".join(known) or "nothing"
            raise UnknownPolicy(f"policy {name!r} has no setting {each!r}; it has {can}")
    return factory(scenario, **tuning)


def names() -> tuple[str, ...]:
    """Return all names, ours first, then peers, then bounds."""
    return tuple(_FACTORIES)


def _penstock(scenario: Scenario, *, percentile: float = 0.95, objective_ratio: float = 1.0) -> ScalingPolicy:
    return Penstock(scenario, Settings(percentile=percentile, objective_ratio=objective_ratio))


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


_FACTORIES: Mapping[str, Factory] = {
    "penstock": _penstock,
    "hpa-queue": _hpa_queue,
    "hpa-kv": _hpa_kv,
    "hpa-concurrency": _hpa_concurrency,
    "hpa-max": _hpa_max,
    "static-peak": static_peak,
    "static-mean": static_mean,
    "clairvoyant": Clairvoyant,
}
