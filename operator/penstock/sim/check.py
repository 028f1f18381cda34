"""What a scenario must be to be run; each complaint names the field and, for a request, its number."""

from __future__ import annotations

import math

import numpy as np

from penstock.engine.batch_loop import BLOCK_TOKENS
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.sim.scenario import LARGEST_FLEET, Scenario

LONGEST_TOKENS = 1 << 20  # tokens of one request: above any context length; bounds the calendars


def check_scenario(scenario: Scenario) -> None:
    """Raise InvalidParameter for requests, bounds or limits that cannot be simulated."""
    _check_requests(scenario)
    _check_fits(scenario, scenario.profile, "profile")
    _check_fleet(scenario)
    if scenario.fallback is not None:
        _check_fits(scenario, scenario.fallback.profile, "fallback.profile")
        if not 1 <= scenario.fallback.replicas <= LARGEST_FLEET:
            raise InvalidParameter("fallback.replicas", f"must be 1 to {LARGEST_FLEET}")


def whole_blocks(kv_capacity_tokens: float) -> int:
    """Return the tokens of KV memory that come in whole blocks: what one request may hold."""
    return int(kv_capacity_tokens) // BLOCK_TOKENS * BLOCK_TOKENS


def _check_requests(scenario: Scenario) -> None:
    arrivals = scenario.arrivals_seconds
    if not arrivals.size or not arrivals.size == scenario.input_tokens.size == scenario.output_tokens.size:
        raise InvalidParameter("arrivals_seconds", "must not be empty, with one input and output length each")
    if not np.isfinite(arrivals).all() or arrivals[0] < 0:
        raise InvalidParameter("arrivals_seconds", "must be finite and at least 0")
    early = np.flatnonzero(np.diff(arrivals) < 0)
    if early.size:
        raise InvalidParameter("arrivals_seconds", f"must be sorted: request {early[0] + 1} is too early")
    for name in ("input_tokens", "output_tokens"):
        tokens = getattr(scenario, name)
        wrong = np.flatnonzero((tokens < 1) | (tokens > LONGEST_TOKENS))
        if wrong.size:
            raise InvalidParameter(
                name, f"of request {wrong[0]} is {tokens[wrong[0]]}, not 1 to {LONGEST_TOKENS}"
            )
    end = scenario.end_seconds
    if end is not None and not arrivals[-1] <= end < math.inf:
        raise InvalidParameter("end_seconds", f"must not be before the last arrival at {arrivals[-1]:g}")


def _check_fits(scenario: Scenario, profile: EngineProfile, name: str) -> None:
    tokens = scenario.input_tokens + scenario.output_tokens
    longest = int(np.argmax(tokens))
    if tokens[longest] > whole_blocks(profile.kv_capacity_tokens):
        raise InvalidParameter(
            f"{name}.kv_capacity_tokens",
            f"{profile.kv_capacity_tokens:.0f} cannot hold request {longest} of {tokens[longest]} tokens",
        )


def _check_fleet(scenario: Scenario) -> None:
    bounds = (scenario.min_replicas, scenario.initial_replicas, scenario.max_replicas)
    if not 1 <= bounds[0] <= bounds[1] <= bounds[2] <= LARGEST_FLEET:
        raise InvalidParameter(
            "min_replicas, initial_replicas, max_replicas",
            f"must be in this order within 1 to {LARGEST_FLEET}, got {', '.join(map(str, bounds))}",
        )
