"""Offered load as the gateways count it: admitted + shed + spilled, per second, by class.

Counters are read every second; rates are taken over the same window as Prometheus's, so that a
decision compares like with like. A counter that falls (all gateways restarted) begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.model.reading import Absence, Reading
from penstock.model.spec import Slo
from penstock.model.traffic import ClassCount, GatewayReading

# Readings older than this say nothing of now: three missed looks.
STALE_SECONDS = 5.0
_MOST_SAMPLES = 16
_NONE = ClassCount()


@dataclass(frozen=True, slots=True)
class ClassRate:
    """Requests of one class per second."""

    offered: float
    shed: float
    spilled: float

    @property
    def admitted(self) -> float:
        """Return what the service itself was given."""
        return max(0.0, self.offered - self.shed - self.spilled)


@dataclass(frozen=True, slots=True)
class GatewayRates:
    """What passed the gateways over the last window, by class; and what is there now."""

    latest: GatewayReading
    window_seconds: float
    classes: dict[str, ClassRate]

    @property
    def offered(self) -> float:
        """Return all requests per second."""
        return sum(each.offered for each in self.classes.values())

    @property
    def shed(self) -> float:
        """Return requests per second that got a 429."""
        return sum(each.shed for each in self.classes.values())

    @property
    def spilled(self) -> float:
        """Return requests per second that went to the fallback."""
        return sum(each.spilled for each in self.classes.values())

    def to_size_for(self, slo: Slo) -> float:
        """Return the offered load that buys replicas, 1/s.

        Classes outside ``slo.classes`` count as far as they were admitted: work of theirs that is shed
        buys no replicas, work that is served needs those it has.
        """
        return sum(
            rate.offered if not slo.classes or name in slo.classes else rate.admitted
            for name, rate in self.classes.items()
        )


@dataclass(frozen=True, slots=True)
class GatewayMemory:
    """Some readings of the last window, oldest first."""

    readings: tuple[GatewayReading, ...] = field(default=())


def observe_gateway(
    memory: GatewayMemory, reading: GatewayReading, *, window_seconds: float
) -> GatewayMemory:
    """Take in a reading; one in every sixteenth of the window is kept, and always the newest."""
    kept = memory.readings
    if kept and _fell(kept[-1], reading):
        return GatewayMemory((reading,))
    if len(kept) >= 2 and reading.at - kept[-2].at < window_seconds / _MOST_SAMPLES:
        kept = kept[:-1]  # the newest replaces the last one until that is old enough to stay
    first = 0
    while first + 1 < len(kept) and kept[first + 1].at <= reading.at - window_seconds:
        first += 1
    return GatewayMemory((*kept[first:], reading))


def gateway_rates(memory: GatewayMemory, now: float) -> GatewayRates | None:
    """Return rates over the readings kept; None while there are not two, or the newest is stale."""
    if len(memory.readings) < 2 or now - memory.readings[-1].at > STALE_SECONDS:
        return None
    first, last = memory.readings[0], memory.readings[-1]
    seconds = last.at - first.at
    if seconds <= 0:
        return None
    classes = {}
    for name, count in last.classes.items():
        before = first.classes.get(name, _NONE)
        classes[name] = ClassRate(
            offered=max(0.0, count.offered - before.offered) / seconds,
            shed=max(0.0, count.shed - before.shed) / seconds,
            spilled=max(0.0, count.spilled - before.spilled) / seconds,
        )
    return GatewayRates(last, seconds, classes)


def offered_reading(rates: GatewayRates | None, slo: Slo, *, window_seconds: float) -> Reading:
    """Return the offered rate to size for as a signal: missing until half a window was seen."""
    if rates is None or rates.window_seconds < window_seconds / 2:
        return Reading.missing(
            Absence.TOO_FEW_SAMPLES, "the gateways have not been read for half a window yet"
        )
    return Reading(rates.to_size_for(slo))


def bypassing(rates: GatewayRates, engine_rate: Reading) -> str:
    """Say that requests reach the engines past the gateways; "" where they do not, or it is not known.

    Engines count a request at its first token, a moment after the gateway did: 25 % and one in two
    seconds more is beyond what that and scrapes can explain.
    """
    if engine_rate.value is None or rates.window_seconds <= 0:
        return ""
    admitted = rates.offered - rates.shed - rates.spilled
    if engine_rate.value <= 1.25 * admitted + 0.5:
        return ""
    return (
        f"the engines serve {engine_rate.value:.3g} req/s, the gateways let {admitted:.3g} req/s in: the "
        "rest bypasses them, is not limited and not drained; let all clients use the gateways' Service"
    )


def _fell(before: GatewayReading, after: GatewayReading) -> bool:
    return any(
        count.offered > after.classes.get(name, _NONE).offered + 1e-9
        for name, count in before.classes.items()
    )
