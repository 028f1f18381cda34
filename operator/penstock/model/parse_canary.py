"""``spec.canary``: how a new revision is tried."""

from __future__ import annotations

from itertools import pairwise

from penstock.model.canary_counts import Metric
from penstock.model.canary_spec import CanaryCheck, CanarySpec, CheckType, OnInsufficientEvidence
from penstock.model.fields import Fields, InvalidSpec
from penstock.model.parse_traffic import HEADER
from penstock.model.parse_workload import WorkloadParts, parse_target
from penstock.model.references import Mode, TargetRef
from penstock.model.spec import WorkloadType

MOST_STEPS, MOST_CHECKS = 8, 8
LARGEST_STEP_PERCENT = 50
LONGEST_QUERY = 1024

_NUMBER = r"-?[0-9]{1,9}([.][0-9]{1,6})?"
_NUMBER_FIX = 'write a number in quotes with at most six decimals, for example "0.05"'
_OWN_NAMES = tuple(each.value for each in Metric)
_CANARY, _CHECK = CanarySpec(), CanaryCheck("", CheckType.COUNTERS)


def parse_canary(canary: Fields, workload: WorkloadParts) -> CanarySpec:
    """Return how a new revision of `workload` is tried, defaults applied. Raises `InvalidSpec`."""
    return CanarySpec(
        target=_target(canary, workload),
        mode=canary.choice("mode", (Mode.OBSERVE, Mode.ENFORCE), _CANARY.mode),
        step_percents=_steps(canary),
        max_regression_percent=canary.integer(
            "maxRegressionPercent", default=_CANARY.max_regression_percent, lowest=1, highest=200
        ),
        max_duration_seconds=canary.duration(
            "maxDuration",
            default=_CANARY.max_duration_seconds,
            lowest=300,
            highest=168 * 3600,
            examples="30m, 1h or 24h",
        ),
        warm_up_seconds=canary.duration(
            "warmUp",
            default=_CANARY.warm_up_seconds,
            lowest=0,
            highest=3600,
            examples="30s, 2m or 1m30s",
        ),
        on_insufficient_evidence=canary.choice(
            "onInsufficientEvidence", OnInsufficientEvidence, _CANARY.on_insufficient_evidence
        ),
        sticky_header=canary.text(
            "stickyHeader",
            default=_CANARY.sticky_header,
            longest=64,
            pattern=HEADER,
            fix="write a header in lower case, for example x-session-id; x-envoy-* and x-penstock-* are the "
            "gateway's own",
        ),
        checks=_checks(canary),
    )


def _target(canary: Fields, workload: WorkloadParts) -> TargetRef | None:
    if workload.type is WorkloadType.TEMPLATE:
        if canary.has("targetRef"):
            raise canary.fault(
                "targetRef",
                "with workload.type Template a changed template is the canary",
                "remove targetRef",
            )
        return None
    if not canary.has("targetRef"):
        raise canary.fault(
            "targetRef",
            "a canary beside a Target needs a targetRef",
            "name the second workload, for example targetRef: {name: chat-canary}",
        )
    target = parse_target(canary.section("targetRef"))
    if target == workload.target:
        raise canary.fault(
            "targetRef", "the canary is the workload itself", "name another workload, or remove canary"
        )
    return target


def _steps(canary: Fields) -> tuple[int, ...]:
    if not canary.has("stepPercents"):
        return _CANARY.step_percents
    steps = []
    for entry, path in canary.items("stepPercents", largest=MOST_STEPS):
        parent, _, last = path.rpartition(".")  # an entry is read like a field, by the same rules
        steps.append(Fields({last: entry}, parent).integer(last, lowest=1, highest=LARGEST_STEP_PERCENT))
    if not steps:
        raise canary.fault("stepPercents", "no step", "write at least one, for example [5, 20, 50]")
    for lower, higher in pairwise(steps):
        if higher <= lower:
            raise canary.fault(
                "stepPercents", "steps must rise", "write them in order, for example [5, 20, 50]"
            )
    return tuple(steps)


def _checks(canary: Fields) -> tuple[CanaryCheck, ...]:
    checks: list[CanaryCheck] = []
    for entry, path in canary.items("checks", largest=MOST_CHECKS):
        check = _check(Fields(entry, path))
        if any(each.name == check.name for each in checks):
            raise InvalidSpec(f"{path}.name", f'"{check.name}" is there twice', "write each name once")
        checks.append(check)
    return tuple(checks)


def _check(fields: Fields) -> CanaryCheck:
    name_fix = "write a name in lower case other than errors, ttft, tpot and latency, for example refusals"
    check = CanaryCheck(
        name=fields.text("name", longest=63, pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", fix=name_fix),
        type=fields.choice("type", CheckType),
        bad=_query(fields, "bad"),
        total=_query(fields, "total"),
        query=_query(fields, "query"),
        at_most=_number(fields, "atMost"),
        at_least=_number(fields, "atLeast"),
        failures_allowed=fields.integer(
            "failuresAllowed", default=_CHECK.failures_allowed, lowest=1, highest=100
        ),
    )
    if check.name in _OWN_NAMES:
        raise fields.fault("name", f'"{check.name}" is judged already', name_fix)
    counters = check.type is CheckType.COUNTERS
    bounds = check.at_most is not None or check.at_least is not None
    if counters and not (check.bad and check.total):
        raise fields.fault(
            "",
            "type Counters needs bad and total",
            'write two counters, for example bad: refusals_total{pod=~"$arm_pods"}',
        )
    if not counters and not (check.query and bounds):
        raise fields.fault(
            "",
            "type Threshold needs query and atMost or atLeast",
            "write a query of one number and what it may be",
        )
    if not counters and (check.bad or check.total):
        raise fields.fault(
            "", "bad and total apply with type Counters only", "remove them, or set type: Counters"
        )
    if counters and (check.query or bounds):
        raise fields.fault(
            "",
            "query, atMost and atLeast apply with type Threshold only",
            "remove them, or set type: Threshold",
        )
    return check


def _query(fields: Fields, name: str) -> str:
    return fields.text(
        name, default="", longest=LONGEST_QUERY, pattern="(?s:.+)", fix="write a query in PromQL"
    )


def _number(fields: Fields, name: str) -> float | None:
    return fields.decimal(name, pattern=_NUMBER, fix=_NUMBER_FIX) if fields.has(name) else None
