"""All that is decided on one service at one instant: replicas, then admission, then fallback.

Pure: the operator's tick, a replay of what it recorded and a simulation call the same function with the
same values and get the same decisions.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.model.decision import Decision
from penstock.model.observation import Observation
from penstock.model.spec import ServiceSpec
from penstock.model.value import value
from penstock.policy.admission import Admission, decide_admission
from penstock.policy.estimate import Estimate
from penstock.policy.fallback import FallbackShare, decide_fallback
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.memory import ServiceMemory
from penstock.policy.replicas import decide_replicas
from penstock.policy.request_classes import Refusal


@value(frozen=True, slots=True)
class Surroundings:
    """What decisions look at beside the observation: gateways, pods that drain, the fallback."""

    rates: GatewayRates | None = None  # what the gateways counted; None where none serve, or they are silent
    draining: int = 0  # ready pods that get no new requests
    room: FallbackRoom | None = None  # None: not known, or there is no fallback
    refusal: Refusal | None = None  # why the fallback may not be used


ALONE = Surroundings()


class Decided(NamedTuple):
    """The decisions of one instant, and the memory that goes into the next."""

    replicas: Decision[int]
    admission: Decision[Admission]
    fallback: Decision[FallbackShare]
    memory: ServiceMemory


def decide(
    spec: ServiceSpec, seen: Observation, believed: Estimate, memory: ServiceMemory, around: Surroundings
) -> Decided:
    """Decide at ``seen.at``; `memory` is the one that the estimators have brought up to then."""
    now = seen.at
    replicas, replica_memory = decide_replicas(spec, seen, believed, memory.replicas, now)
    admission, admission_memory = decide_admission(
        spec, seen, believed, memory.admission, now, draining=around.draining, rates=around.rates
    )
    fallback, fallback_memory = decide_fallback(
        spec,
        seen,
        believed,
        memory.fallback,
        now,
        admission=admission,
        room=around.room,
        refusal=around.refusal,
        rates=around.rates,
    )
    remembered = memory.with_decisions(replica_memory, admission_memory, fallback_memory)
    return Decided(replicas, admission, fallback, remembered)
