"""The gateways in front of a simulated pool: how many may be in flight, what goes to the fallback.

`FixedGate` holds the scenario's limit per ready replica under any policy. `SteeredGate` does what the
operator's one-second task does with the decisions of a policy that steers traffic: the limit follows the
ready replicas, down at once and up by a tenth a second (`policy.ramp`), and requests are counted as the
gateways count them. In a request's way is `fleet.advance`, in the order of docs/data-plane.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from penstock.model.traffic import ClassCount, FleetLimit, GatewayReading
from penstock.policy.admission import Admission as DecidedAdmission
from penstock.policy.fallback import FallbackShare
from penstock.policy.gateway_load import GatewayMemory, GatewayRates, gateway_rates, observe_gateway
from penstock.policy.ramp import ramp
from penstock.sim.fleet import NO_LIMIT
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.run import LimitChange
from penstock.sim.scenario import Admission, IntArray, Scenario
from penstock.sim.state import Fleet, engine_slots

STEP_SECONDS = 1.0  # of the operator's task


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a policy wants of the gateways. None: no limit; nothing goes to the fallback."""

    admission: DecidedAdmission | None
    fallback: FallbackShare | None


@runtime_checkable
class SteersTraffic(ScalingPolicy, Protocol):
    """A scaling policy that sets the gateways' limits too, after each of its decisions."""

    def traffic(self) -> Traffic:
        """Return what the last decision wants of the gateways."""


class Limits(NamedTuple):
    """What is in force: requests in flight in the ready replicas together and in the fallback."""

    places: int  # NO_LIMIT: everything passes
    fallback_places: int
    planned_ratio: float  # of all requests, sent to the fallback whatever the load


class Gate(Protocol):
    """What the simulation asks of its gateways."""

    def next_step(self) -> float:
        """Return when it wants `step`, seconds; inf: never."""

    def step(self, now: float, ready: IntArray) -> None:
        """Take the limits a second further."""

    def follow(self, traffic: Traffic) -> None:
        """Head for what was decided."""

    def rates(self, now: float) -> GatewayRates | None:
        """Return what was counted over the last window; None where nobody asks the gateways."""

    def limits(self, ready: IntArray) -> Limits:
        """Return what is in force for these ready rows, and let their engines run no more than that."""

    @property
    def changes(self) -> tuple[LimitChange, ...]:
        """The limits that were in force, by the second."""


def gate_of(scenario: Scenario, policy: ScalingPolicy, fleet: Fleet, fallback_rows: IntArray) -> Gate:
    """Return the gateways of a run: steered by the policy if it does that, else as the scenario says."""
    if isinstance(policy, SteersTraffic):
        return SteeredGate(scenario, fleet, fallback_rows)
    return FixedGate(scenario)


class FixedGate:
    """The scenario's own limits."""

    changes: tuple[LimitChange, ...] = ()

    def __init__(self, scenario: Scenario) -> None:
        self._own = scenario.admission
        self._fallback_places = fallback_places(scenario)

    def next_step(self) -> float:
        """Return never."""
        return float("inf")

    def step(self, now: float, ready: IntArray) -> None:
        """Do nothing: nothing changes by the second."""

    def follow(self, traffic: Traffic) -> None:
        """Do nothing: nobody decides."""

    def rates(self, now: float) -> GatewayRates | None:
        """Return None: a policy that does not steer reads Prometheus only."""
        return None

    def limits(self, ready: IntArray) -> Limits:
        """Return the limit per ready replica times their number."""
        return Limits(_places(self._own, ready.size), self._fallback_places, 0.0)


class SteeredGate:
    """Limits that a policy decides; none before its first decision with a model."""

    def __init__(self, scenario: Scenario, fleet: Fleet, fallback_rows: IntArray) -> None:
        self._slots = engine_slots(scenario.profile)
        self._fallback_places = fallback_places(scenario)
        self._window_seconds = scenario.scraping.rate_window_seconds
        self._fleet, self._fallback_rows = fleet, fallback_rows
        self._wanted = Traffic(None, None)
        self._in_force: FleetLimit | None = None
        self._stepped_at = 0.0
        self._steps = 0
        self._memory = GatewayMemory()
        self._changes: list[LimitChange] = []

    @property
    def changes(self) -> tuple[LimitChange, ...]:
        """The limits that were in force, by the second."""
        return tuple(self._changes)

    def next_step(self) -> float:
        """Return the next whole second."""
        return self._steps * STEP_SECONDS

    def follow(self, traffic: Traffic) -> None:
        """Head for what was decided, from the next step on."""
        self._wanted = traffic

    def step(self, now: float, ready: IntArray) -> None:
        """Read the counters and move the limit towards that of the replicas that are ready now."""
        self._memory = observe_gateway(
            self._memory, self._reading(now, ready), window_seconds=self._window_seconds
        )
        admission = self._wanted.admission
        target = None if admission is None else admission.with_serving(ready.size).enforced_limit
        limit = ramp(self._in_force, target, now - self._stepped_at)
        if limit != self._in_force:
            self._changes.append(LimitChange(now, limit))
        self._in_force, self._stepped_at = limit, now
        self._steps += 1

    def rates(self, now: float) -> GatewayRates | None:
        """Return what was counted over the last window."""
        return gateway_rates(self._memory, now)

    def limits(self, ready: IntArray) -> Limits:
        """Return what is in force; the ready engines share the running limit evenly."""
        limit, share = self._in_force, self._wanted.fallback
        slots = self._slots
        if limit is not None and ready.size:
            slots = min(slots, -(-limit.running // ready.size))
        self._fleet.replicas["slots"][ready] = slots
        spills = share is not None and share.enforced
        return Limits(
            NO_LIMIT if limit is None else limit.in_flight,
            min(self._fallback_places, share.in_flight_limit) if share is not None and spills else 0,
            share.active_ratio if share is not None else 0.0,
        )

    def _reading(self, now: float, ready: IntArray) -> GatewayReading:
        fleet, replicas = self._fleet, self._fleet.replicas
        present, running = (float(replicas[name][ready].sum()) for name in ("present", "running"))
        return GatewayReading(
            at=now,
            proxies=1,
            in_flight=present,
            waiting=present - running,
            spilled_in_flight=float(replicas["present"][self._fallback_rows].sum()),
            classes={"": ClassCount(float(fleet.offered[0]), float(fleet.shed[0]), float(fleet.spilled[0]))},
        )


def fallback_places(scenario: Scenario) -> int:
    """Return how many requests the fallback's own gateway lets in; 0 without a fallback."""
    fallback = scenario.fallback
    return 0 if fallback is None else _places(fallback.admission, fallback.replicas)


def _places(admission: Admission | None, replicas: int) -> int:
    if admission is None:
        return NO_LIMIT
    return replicas * (admission.running_limit + admission.queue_limit)
