"""From an InferenceService as the API server stores it to a `ServiceSpec`.

The same rules and defaults as ``crds/`` and the same advice in the refusals: what the API server lets
through parses, also from a file that never saw one. Only the first fault is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from penstock.model.fields import Fields, InvalidSpec
from penstock.model.parse_canary import parse_canary
from penstock.model.parse_engine import parse_engine
from penstock.model.parse_traffic import (
    class_names,
    parse_admission,
    parse_balancer,
    parse_fallback,
    parse_routing,
)
from penstock.model.parse_workload import parse_workload
from penstock.model.spec import (
    AdmissionSpec,
    CostSpec,
    Metric,
    Mode,
    Objective,
    ReplicaSpec,
    ServiceKey,
    ServiceSpec,
    Slo,
)

__all__ = ["InvalidSpec", "parse_service"]

GROUP = "serving.penstock.dev"
VERSION = "v1alpha1"
LONGEST_NAME = 46

_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# Largest objective in seconds and examples, by metric.
_OBJECTIVES = {
    Metric.TTFT: (600.0, "500ms, 2s or 1m30s", "500ms"),
    Metric.TPOT: (60.0, "50ms or 1s", "50ms"),
    Metric.LATENCY: (3600.0, "200ms, 30s or 1m30s", "200ms"),
}
_REPLICAS, _SLO = ReplicaSpec(), Slo(())


def parse_service(obj: Mapping[str, object]) -> ServiceSpec:
    """Return the service that `obj` describes, defaults applied. Raises `InvalidSpec`.

    Metadata that only a stored object has (uid, generation) may be missing: "" and 0 then; the
    namespace defaults to ``default``. Unknown fields are ignored, as the API server prunes them.
    """
    resource = Fields(obj, "")
    metadata = Fields(resource.value("metadata") or {}, "metadata")
    name = metadata.text(
        "name",
        longest=253,
        fix="write the name of the service, for example chat",
    )
    if len(name) > LONGEST_NAME or not _is_dns_1035(name):
        raise metadata.fault(
            "name",
            f'"{name}" becomes the name of Services',
            f"write at most {LONGEST_NAME} characters of a-z, 0-9 and -, starting with a letter and ending "
            "with a letter or digit",
        )
    key = ServiceKey(metadata.text("namespace", default="default", longest=63, fix="write a namespace"), name)
    spec = Fields(resource.value("spec") or {}, "spec")
    workload = spec.required_section(
        "workload", "name what serves, for example workload: {targetRef: {name: chat}}"
    )
    parts = parse_workload(workload, name)
    slo = spec.required_section("slo", "state an objective, for example slo: {ttft: {p95: 500ms}}")
    engine = spec.section("engine")
    admission = parse_admission(spec.section("admission"))
    routing = parse_routing(spec.section("routing"))
    parsed = ServiceSpec(
        key=key,
        uid=metadata.text("uid", default="", longest=128, fix="leave it to the API server"),
        generation=metadata.integer("generation", default=0, lowest=0, highest=2**63 - 1),
        mode=spec.choice("mode", Mode, Mode.ENFORCE),
        workload_type=parts.type,
        target=parts.target,
        template=parts.template,
        service=parts.service,
        model_names=parts.model_names,
        slo=_slo(slo),
        engine=parse_engine(engine),
        replicas=_replicas(spec.section("replicas")),
        admission=admission,
        fallback=parse_fallback(spec.section("fallback"), name) if spec.has("fallback") else None,
        routing=routing,
        canary=parse_canary(spec.section("canary"), parts) if spec.has("canary") else None,
        balancer=parse_balancer(spec.section("routing"), routing.type),
        cost=_cost(spec.section("cost")) if spec.has("cost") else None,
    )
    if parsed.engine.service_time is not None and (slo.has("ttft") or slo.has("tpot")):
        raise spec.fault(
            "slo",
            "ttft and tpot do not apply to a request/response service (engine.serviceTime is set)",
            "state slo.latency instead",
        )
    _check_classes(spec, "slo", parsed.slo.classes, admission)
    _check_classes(spec, "fallback", parsed.fallback.classes if parsed.fallback else (), admission)
    return parsed


def _check_classes(spec: Fields, section: str, names: tuple[str, ...], admission: AdmissionSpec) -> None:
    known = {each.name for each in admission.classes}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise spec.section(section).fault(
            "classes",
            f'"{unknown[0]}" is not among admission.classes',
            f"list it there, or leave {section}.classes out to mean all requests",
        )


def _is_dns_1035(name: str) -> bool:
    characters = name.replace("-", "a")
    return (
        characters.isascii()
        and characters.isalnum()
        and characters == characters.lower()
        and name[0].isalpha()
        and name[-1] != "-"
    )


def _slo(slo: Fields) -> Slo:
    objectives = tuple(objective for metric in Metric for objective in _objectives(slo, metric))
    if not objectives:
        raise slo.fault(
            "", "no objective", "state at least one latency objective, for example ttft: {p95: 500ms}"
        )
    return Slo(
        objectives=objectives,
        availability_ratio=slo.decimal(
            "availabilityPercent",
            default=_SLO.availability_ratio * 100,
            pattern=r"[5-9][0-9]([.][0-9]{1,4})?",
            fix='write a percentage in quotes from "50" to below "100" with at most four decimals, '
            'for example "99.5"',
        )
        / 100,
        window_days=slo.integer("windowDays", default=_SLO.window_days, lowest=1, highest=90),
        classes=class_names(slo, "classes"),
    )


def _objectives(slo: Fields, metric: Metric) -> list[Objective]:
    if not slo.has(metric.value):
        return []
    highest, examples, example = _OBJECTIVES[metric]
    percentiles = slo.section(metric.value)
    found = [
        Objective(
            metric, percentile, percentiles.duration(name, lowest=0.001, highest=highest, examples=examples)
        )
        for name, percentile in _PERCENTILES.items()
        if percentiles.has(name)
    ]
    if not found:
        fix = f"state at least one percentile, for example p95: {example}"
        raise slo.fault(metric.value, "no percentile", fix)
    for lower, higher in pairwise(found):
        if higher.seconds < lower.seconds:
            raise slo.fault(
                metric.value,
                f"{higher.name} is below {lower.name}",
                "a higher percentile cannot be faster than a lower one: p50 <= p90 <= p95 <= p99",
            )
    return found


def _replicas(replicas: Fields) -> ReplicaSpec:
    examples = "45s, 2m or 1h30m"
    spec = ReplicaSpec(
        min=replicas.integer("min", default=_REPLICAS.min, lowest=1, highest=10_000),
        max=replicas.integer("max", default=_REPLICAS.max, lowest=1, highest=10_000),
        spare=replicas.integer("spare", default=_REPLICAS.spare, lowest=0, highest=100),
        initial_startup_seconds=replicas.duration(
            "initialStartup",
            default=_REPLICAS.initial_startup_seconds,
            lowest=1,
            highest=7200,
            examples=examples,
        ),
        scale_down_window_seconds=replicas.duration(
            "scaleDownWindow",
            default=_REPLICAS.scale_down_window_seconds,
            lowest=1,
            highest=7200,
            examples=examples,
        ),
        max_added_per_minute=replicas.optional_integer("maxAddedPerMinute", lowest=1, highest=10_000),
    )
    if spec.min > spec.max:
        raise replicas.fault("min", f"min {spec.min} is above max {spec.max}", "raise max or lower min")
    if spec.spare > spec.max:
        raise replicas.fault(
            "spare", f"spare {spec.spare} is above max {spec.max}", "raise max or lower spare"
        )
    return spec


def _cost(cost: Fields) -> CostSpec:
    return CostSpec(
        per_replica_hour=cost.decimal(
            "perReplicaHour",
            pattern=r"[0-9]{1,6}([.][0-9]{1,4})?",
            fix='write a price in quotes with at most four decimals, for example "4.00"',
        ),
        currency=cost.text(
            "currency",
            default="USD",
            longest=3,
            pattern=r"[A-Z]{3}",
            fix="write an ISO 4217 code, for example USD or EUR",
        ),
    )
