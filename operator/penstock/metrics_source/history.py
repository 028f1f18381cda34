"""Past arrival rates of some services, so that a restarted operator does not forget a ramp.

One range query per engine type, for the asked services only: an hour and a half of 10,000 is 350 MB once it
is parsed. By pod, pods that are gone by now are found by their names: those of a Deployment are
``<name>-<hash>-<suffix>``, those of a StatefulSet ``<name>-<ordinal>``.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence

import structlog

from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import Labels, MetricsSource, QueryError, QueryLimits
from penstock.metrics_source.catalogue import FleetQuery
from penstock.metrics_source.confined import confined
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.metrics_source.partial_answers import incomplete
from penstock.metrics_source.plan import matching, plan_tick
from penstock.metrics_source.promql import QueryWriter, Shard
from penstock.metrics_source.promql_tokens import PromqlRefusedError
from penstock.model.spec import ServiceKey, Signal

log = structlog.get_logger(__name__)
RateHistory = Mapping[ServiceKey, tuple[tuple[float, float], ...]]
TIMEOUT_SECONDS = 20.0  # once per restart: worth more patience than a tick has
# For all custom queries together, of which each may take half of it: 250 that time out one after the other
# would be an hour without a decision.
CUSTOM_LIMITS = CollectLimits(deadline_seconds=TIMEOUT_SECONDS, custom_timeout_seconds=TIMEOUT_SECONDS / 2)
POD_OF_DEPLOYMENT = re.compile(r"(?P<owner>.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[a-z0-9]{5}")
POD_OF_STATEFUL_SET = re.compile(r"(?P<owner>.+)-[0-9]+")
_LEFT_OUT = "the history of a custom rate is left out"


async def read_rate_history(
    source: MetricsSource,
    services: Sequence[Watched],
    settings: SeriesSettings,
    *,
    start: float,
    end: float,
    step: float,
) -> RateHistory:
    """Return arrival rates by service, oldest first; services without any are left out.

    So is a service whose own query fails, and no other for it: only where the engines' rates cannot be read
    is `QueryError` raised. Times out of order are a `ValueError`.
    """
    if not (step > 0 and end >= start):
        raise ValueError(f"a history needs start <= end and a positive step, not {start}..{end} by {step}")
    limits = QueryLimits(timeout_seconds=TIMEOUT_SECONDS)
    found: dict[ServiceKey, dict[float, float]] = {}
    for plan in plan_tick(services, settings, 0):
        shard = _shard(plan.services, settings)
        query = QueryWriter(plan.series, settings, shard).write(FleetQuery.ARRIVAL_RATE)
        if not query:
            continue
        owners = _owners(plan.services, settings)
        result = await source.range(query, start=start, end=end, step=step, limits=limits)
        for labels, points in result.series:
            key = _owner(labels, owners, settings)
            if key is None:
                continue
            rates = found.setdefault(key, {})
            for time, rate in points:
                if math.isfinite(rate):
                    rates[time] = rates.get(time, 0.0) + rate
    asker, times = Asker(source, CUSTOM_LIMITS, end), (start, end, step)
    own = [
        (each.key, query.promql)
        for each in services
        for query in each.spec.engine.queries
        if query.signal is Signal.ARRIVAL_RATE
    ]
    past = await asyncio.gather(*(_custom(asker, *each, settings, times) for each in own))
    found.update(zip((key for key, _ in own), past, strict=True))
    return {key: tuple(sorted(rates.items())) for key, rates in found.items() if rates}


async def _custom(
    asker: Asker,
    key: ServiceKey,
    promql: str,
    settings: SeriesSettings,
    times: tuple[float, float, float],
) -> dict[float, float]:
    """Return the history of a user's query; nothing where it is not one series, or cannot be read."""
    start, end, step = times
    try:
        query, asker = confined(promql, key.namespace, settings).promql, asker.on_behalf_of(key.namespace)
        result = await asker.range(query, CUSTOM_LIMITS.custom(), start=start, end=end, step=step)
        if isinstance(result, QueryError):
            log.warning(_LEFT_OUT, service=str(key), error=result.message)
            return {}
        if (partial := incomplete(Signal.ARRIVAL_RATE.value, result.warnings)) is not None:
            log.warning(_LEFT_OUT, service=str(key), error=partial.detail)
            return {}
        if len(result.series) != 1:
            return {}
        return {time: rate for time, rate in result.series[0][1] if math.isfinite(rate) and rate >= 0}
    except PromqlRefusedError:
        return {}
    except Exception:
        # This service begins without its past; the others have theirs.
        log.exception(_LEFT_OUT, service=str(key))
        return {}


def _shard(services: Sequence[Watched], settings: SeriesSettings) -> Shard:
    """Return matchers that cover the services, by pod also with the pods that are gone."""
    shard = matching(services, settings)
    if settings.identify_by is IdentifyBy.SERVICE:
        return shard
    names = tuple(sorted({f"{each.spec.target.name}-" for each in services}))
    return Shard(shard.values, {settings.pod_label: names})


def _owners(services: Sequence[Watched], settings: SeriesSettings) -> dict[tuple[str, str], ServiceKey]:
    """Return whose a name is: of a service label, of a pod, or of the owner that pods are named after."""
    owners: dict[tuple[str, str], ServiceKey] = {}
    for each in services:
        if settings.identify_by is IdentifyBy.SERVICE:
            owners[each.key.namespace, each.label_value] = each.key
            continue
        owners[each.key.namespace, _owned_by(each.spec.target.name)] = each.key
        for pod in each.pods:
            owners[each.key.namespace, pod] = each.key
    return owners


def _owner(
    labels: Labels, owners: Mapping[tuple[str, str], ServiceKey], settings: SeriesSettings
) -> ServiceKey | None:
    namespace = labels.get(settings.namespace_label, "")
    if settings.identify_by is IdentifyBy.SERVICE:
        return owners.get((namespace, labels.get(settings.service_label, "")))
    pod = labels.get(settings.pod_label, "")
    found = owners.get((namespace, pod))
    for pattern in (POD_OF_DEPLOYMENT, POD_OF_STATEFUL_SET):
        match = pattern.fullmatch(pod)
        if found is None and match is not None:
            found = owners.get((namespace, _owned_by(match["owner"])))
    return found


def _owned_by(name: str) -> str:
    # A space is in no name of Kubernetes: pods and owners cannot be taken for one another.
    return f"pods of {name}"
