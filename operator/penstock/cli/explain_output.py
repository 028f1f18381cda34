"""An explanation for people: the decision and its numbers, what another count would give, what hinders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from penstock.cli.explain_canary import evidence_table, missing_lines, standing
from penstock.cli.explain_read import Live
from penstock.cli.explain_what_if import WhatIf
from penstock.model.conditions import Condition, Status, parse_timestamp, read_conditions
from penstock.policy import wording
from penstock.policy.step_factors import AS_PROFILED, StepFactors

# The status of a condition that nobody need look at; the rest is shown with its message.
_NORMAL = {
    "Ready": Status.TRUE,
    "Accepted": Status.TRUE,
    "MetricsAvailable": Status.TRUE,
    "ModelTrusted": Status.TRUE,
    "ObjectivesMet": Status.TRUE,
    "ScalingLimited": Status.FALSE,
    "AdmissionLimited": Status.FALSE,
    "FallbackActive": Status.FALSE,
    "CanaryHealthy": Status.TRUE,
}
_TOLD_APART = ("AdmissionLimited", "FallbackActive", "CanaryHealthy")
_FACTORS = ("overhead", "compute", "memory")
NOT_FOLLOWED = (
    "The operator does not go by this table: measurements contradict the model (ModelTrusted is False), "
    "and replicas follow the measured concurrency and latencies."
)


def print_explained(live: Live, whatif: WhatIf | str, console: Console, now: float) -> None:
    """Print the explanation; `now` in Unix seconds."""
    with console.capture() as captured:
        _print_parts(live, whatif, console, now)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")
    console.file.flush()


def _print_parts(live: Live, whatif: WhatIf | str, console: Console, now: float) -> None:
    status = live.status
    console.print(Text(_headline(live), style="bold"))
    for line in _why(live, now):
        console.print(_indented(line))
    facts = [*_facts(live)]
    if facts:
        console.print()
        console.print(_pairs(facts))
    console.print()
    _print_what_if(whatif, console)
    canary = status.get("canary")
    if canary:
        console.print()
        console.print(Text("Canary", style="bold"))
        console.print(_indented(standing(canary, _ago(canary.get("since"), now))))
        for line in _canary_lines(canary, read_conditions(status)):
            console.print(_indented(line))
        if canary.get("rows"):
            console.print(evidence_table(canary["rows"]))
            for line in missing_lines(canary["rows"]):
                console.print(_indented(line))
    trouble = [each for each in read_conditions(status) if _is_trouble(each)]
    if trouble:
        console.print()
        console.print(Text("To look at", style="bold"))
        for each in trouble:
            console.print(_indented(f"{each.type}={each.status.value}, {each.reason}: {each.message}"))


def _headline(live: Live) -> str:
    replicas = live.status.get("replicas") or {}
    desired, ready, current = (replicas.get(name) for name in ("desired", "ready", "current"))
    if desired is None:
        count = "no replica count decided"
    else:
        count = wording.replicas(int(desired)) + (" would be set" if live.mode == "Observe" else "")
    there = "" if ready is None or current is None else f", {ready} of {current} ready"
    return f"{live.key}: {count}{there} (mode {live.mode})"


def _why(live: Live, now: float) -> Iterator[str]:
    status, decision = live.status, live.status.get("decision")
    if not status:
        yield "The operator has not looked at it yet: is penstock run running, and may it see this namespace?"
        return
    seen = status.get("observedGeneration")
    if seen is not None and seen != live.generation:
        yield f"This status is of generation {seen}; the spec is at {live.generation}: not looked at yet."
    if live.fault:
        yield f"The spec cannot be read: {live.fault}"
    if decision is None:
        yield "Nothing is decided: see below."
        return
    ago = _ago(decision.get("time"), now)
    yield f"Why: {decision.get('reason')}{f', for {ago}' if ago else ''}"
    yield str(decision.get("message"))


def _facts(live: Live) -> Iterator[tuple[str, str]]:
    status = live.status
    load = status.get("load") or {}
    if load:
        counted = {"Gateway": " at the gateways", "Engine": " by the engines"}.get(
            str(load.get("source")), ""
        )
        rate = f"{load['arrivalRate']} req/s{counted}" if "arrivalRate" in load else "rate not known"
        used = f"; utilization {load['utilizationPercent']} %" if "utilizationPercent" in load else ""
        yield "Load", rate + used
    for each in status.get("objectives") or ():
        measured = each.get("measured") or "not measured"
        left = (
            f"; {each['budgetRemainingPercent']} % of the budget left"
            if "budgetRemainingPercent" in each
            else ""
        )
        yield "Objective", f"{each['name']}: {measured}, {each['target']} asked{left}"
    learned = status.get("learned") or {}
    if learned:
        yield "Learned", _learned(learned)
    conditions = {each.type: each for each in read_conditions(status)}
    for title, type_, section in (
        ("Admission", "AdmissionLimited", status.get("admission")),
        ("Fallback", "FallbackActive", status.get("fallback")),
    ):
        known = conditions.get(type_)
        if known is not None:
            yield title, f"{known.reason}: {known.message}"
        if section:
            yield "", _numbers(section)
    floor = status.get("foreignFloor")
    if floor:
        yield "Floor", f"{floor.get('replicas')} until {floor.get('until')}: somebody scaled it up"


def _learned(learned: Mapping[str, Any]) -> str:
    said = []
    if "warmStartSeconds" in learned:
        said.append(f"a replica starts in {wording.span(learned['warmStartSeconds'])}")
    if "newNodeStartSeconds" in learned:
        said.append(f"on a new node in {wording.span(learned['newNodeStartSeconds'])}")
    if "computeRatio" in learned:
        said.append("a step's " + _of_profile({name: learned.get(f"{name}Ratio") for name in _FACTORS}))
    elif "speedRatio" in learned:
        said.append(f"a step takes {learned['speedRatio']} times the profile's time")
    if "inputTokens" in learned and "outputTokens" in learned:
        said.append(f"{learned['inputTokens']:,} tokens in, {learned['outputTokens']:,} out")
    return ", ".join(said)


def _numbers(section: Mapping[str, Any]) -> str:
    names = {
        "maxInFlight": "at most {} in flight",
        "runningPerReplica": "{} running",
        "queuedPerReplica": "{} queued per replica",
        "shedPercent": "{} % refused",
        "backend": "to {}",
        "percent": "{} % of the requests",
    }
    said = [text.format(section[name]) for name, text in names.items() if name in section]
    observed = " (only shown: Observe)" if section.get("mode") == "Observe" else ""
    return ", ".join(said) + observed


def _print_what_if(whatif: WhatIf | str, console: Console) -> None:
    console.print(Text("One replica more or less", style="bold"))
    if isinstance(whatif, str):
        console.print(_indented(f"cannot be told: {whatif}"))
        return
    asked = whatif.asked
    source = f"{asked.rate_source}, without what is expected to come" if asked.of_now else asked.rate_source
    load = f"at {wording.rate(asked.rate_per_second)} req/s ({source})"
    if asked.lengths is not None:
        tokens = f"{asked.lengths.input.mean:,.0f} in, {asked.lengths.output.mean:,.0f} out tokens"
        load += f"; {tokens} ({asked.lengths.source})"
    load += _engine(asked.factors)
    console.print(_indented(load))
    if asked.not_measured:
        console.print(_indented(f"not from Prometheus: {asked.not_measured}"))
    if not asked.followed:
        console.print(_indented(NOT_FOLLOWED))
    console.print(_outcomes(whatif))
    spare = asked.spec.replicas.spare
    if spare:
        kept = wording.replicas(max(1, asked.decided - spare))
        console.print(_indented(f"of {asked.decided}, {spare} spare: the objectives are to hold with {kept}"))


def _engine(factors: StepFactors) -> str:
    if factors == AS_PROFILED:
        return ""
    if factors == StepFactors.even(factors.compute):
        return f"; engine at {factors.compute:g} times the profile's step time"
    return "; engine with " + _of_profile({name: f"{getattr(factors, name):g}" for name in _FACTORS})


def _of_profile(factors: Mapping[str, object]) -> str:
    return ", ".join(f"{name} x {factor}" for name, factor in factors.items()) + " of the profile's"


def _outcomes(whatif: WhatIf) -> Table:
    objectives = whatif.asked.spec.slo.objectives
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("replicas", justify="right")
    table.add_column("util.", justify="right")
    for objective in objectives:
        table.add_column(wording.objective(objective), justify="right", no_wrap=True)
    table.add_column("shed", justify="right")
    table.add_column("verdict")
    for each in whatif.outcomes:
        mark = " (decided)" if each.replicas == whatif.asked.decided else ""
        table.add_row(
            str(each.replicas),
            f"{each.prediction.utilization:.0%}",
            *(wording.seconds(each.seconds(objective)) for objective in objectives),
            f"{each.shed_fraction:.2%}",
            ("holds" if each.broken is None else f"breaks {each.broken}") + mark,
            style="bold" if mark else "",
        )
    return table


def _canary_lines(canary: Mapping[str, Any], conditions: tuple[Condition, ...]) -> Iterator[str]:
    healthy = next((each for each in conditions if each.type == "CanaryHealthy"), None)
    if healthy is not None:
        yield f"{healthy.reason}: {healthy.message}"
    if canary.get("evidence") and (healthy is None or canary["evidence"] not in healthy.message):
        yield f"Evidence: {canary['evidence']}"
    if canary.get("rejectedRevision"):
        because = str(canary.get("rejectedBecause") or "")
        told = healthy is not None and because in healthy.message
        yield f"Rejected, not tried again: revision {canary['rejectedRevision']}" + (
            "" if told else f": {because}"
        )


def _is_trouble(condition: Condition) -> bool:
    normal = _NORMAL.get(condition.type)
    return normal is not None and condition.status is not normal and condition.type not in _TOLD_APART


def _ago(time: object, now: float) -> str:
    try:
        return wording.span(max(0.0, now - parse_timestamp(str(time))))
    except ValueError:
        return ""


def _indented(line: str) -> Padding:
    return Padding(Text(line), (0, 0, 0, 2))


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table
