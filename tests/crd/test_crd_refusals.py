"""What is wrong with a resource, in the words of the API server and in the parser's."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.refusal import SERVICES, Refusal
from fakes.schema_walk import least
from penstock.model.parse import InvalidSpec, parse_service
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api


def with_law(**parameters: object) -> dict[str, Any]:
    """A resource with an inline profile."""
    return least(engine={"profile": {"type": "Inline", "inline": parameters}})


REFUSALS = {
    "min above max": Refusal(
        least(replicas={"min": 5, "max": 2}),
        where="spec.replicas.min",
        value="object",
        rule="min is above max: raise max or lower min",
        parser="spec.replicas.min: min 5 is above max 2: raise max or lower min",
    ),
    "spare above max": Refusal(
        least(replicas={"spare": 11}),
        where="spec.replicas.spare",
        value="object",
        rule="spare is above max: raise max or lower spare",
        parser="spec.replicas.spare: spare 11 is above max 10: raise max or lower spare",
    ),
    "no replicas": Refusal(
        least(replicas={"min": 0}),
        where="spec.replicas.min",
        value="0",
        rule="spec.replicas.min in body should be greater than or equal to 1",
        parser="spec.replicas.min: 0 is below 1: write an integer from 1 to 10000",
    ),
    "no objective": Refusal(
        least(slo={}),
        where="spec.slo",
        value="object",
        rule="state at least one latency objective, for example ttft: {p95: 500ms}",
        parser="spec.slo: no objective: state at least one latency objective, for example ttft: {p95: 500ms}",
    ),
    "no percentile": Refusal(
        least(slo={"tpot": {}}),
        where="spec.slo.tpot",
        value="object",
        rule="state at least one percentile, for example p95: 50ms",
        parser="spec.slo.tpot: no percentile: state at least one percentile, for example p95: 50ms",
    ),
    "a decimal duration": Refusal(
        least(slo={"ttft": {"p95": "0.5s"}}),
        where="spec.slo.ttft.p95",
        value="string",
        rule="write a duration from 1ms to 10m without decimals, for example 500ms, 2s or 1m30s",
        parser='spec.slo.ttft.p95: "0.5s" is not a duration: write a duration from 1ms to 10m without '
        "decimals, for example 500ms, 2s or 1m30s",
    ),
    "no duration at all": Refusal(
        least(slo={"ttft": {"p95": "0s"}}),
        where="spec.slo.ttft.p95",
        value="string",
        rule="write a duration from 1ms to 10m without decimals, for example 500ms, 2s or 1m30s",
        parser="spec.slo.ttft.p95: 0s is out of range: write a duration from 1ms to 10m without decimals, "
        "for example 500ms, 2s or 1m30s",
    ),
    "decreasing percentiles": Refusal(
        least(slo={"ttft": {"p50": "2s", "p95": "1s"}}),
        where="spec.slo.ttft",
        value="object",
        rule="a higher percentile cannot be faster than a lower one: p50 <= p90 <= p95 <= p99",
        parser="spec.slo.ttft: ttft.p95 is below ttft.p50: a higher percentile cannot be faster than a "
        "lower one: p50 <= p90 <= p95 <= p99",
    ),
    "full availability": Refusal(
        least(slo={"ttft": {"p95": "1s"}, "availabilityPercent": "100"}),
        where="spec.slo.availabilityPercent",
        value="string",
        rule='write a percentage in quotes from "50" to below "100" with at most four decimals, for '
        'example "99.5"',
        parser='spec.slo.availabilityPercent: "100" does not fit: write a percentage in quotes from "50" '
        'to below "100" with at most four decimals, for example "99.5"',
    ),
    "ttft of a request/response service": Refusal(
        least(engine={"serviceTime": {"mean": "5ms"}}),
        where="spec.slo",
        value="object",
        rule="ttft and tpot do not apply to a request/response service (engine.serviceTime is set): state "
        "slo.latency instead",
        parser="spec.slo: ttft and tpot do not apply to a request/response service (engine.serviceTime is "
        "set): state slo.latency instead",
    ),
    "a profile beside a service time": Refusal(
        least(
            slo={"latency": {"p99": "1s"}},
            engine={"serviceTime": {"mean": "5ms"}, "profile": {"type": "Named", "name": "x"}},
        ),
        where="spec.engine.profile",
        value="object",
        rule="a request/response service has a serviceTime instead of a profile: remove profile or "
        "serviceTime",
        parser="spec.engine.profile: a request/response service has a serviceTime instead of a profile: "
        "remove profile or serviceTime",
    ),
    "a fast full batch": Refusal(
        least(
            slo={"latency": {"p99": "1s"}},
            engine={"serviceTime": {"mean": "5ms", "batching": {"maxBatch": 4, "fullBatchMean": "4ms"}}},
        ),
        where="spec.engine.serviceTime.batching.fullBatchMean",
        value="object",
        rule="a full batch cannot take less time than one request: write a fullBatchMean of at least mean",
        parser="spec.engine.serviceTime.batching.fullBatchMean: a full batch cannot take less time than "
        "one request: write a fullBatchMean of at least mean",
    ),
    "a custom engine without queries": Refusal(
        least(engine={"type": "Custom"}),
        where="spec.engine.queries",
        value="object",
        rule="type Custom needs queries: one PromQL per signal, for example queries: [{signal: "
        "ArrivalRate, promql: ...}]",
        parser="spec.engine.queries: type Custom needs queries: one PromQL per signal, for example "
        "queries: [{signal: ArrivalRate, promql: ...}]",
    ),
    "queries of a known engine": Refusal(
        least(engine={"queries": [{"signal": "Running", "promql": "x"}]}),
        where="spec.engine.queries",
        value="object",
        rule="queries are read with type Custom only: set type: Custom or remove them",
        parser="spec.engine.queries: queries are read with type Custom only: set type: Custom or remove them",
    ),
    "a named profile without a name": Refusal(
        least(engine={"profile": {"type": "Named"}}),
        where="spec.engine.profile.name",
        value="object",
        rule="type Named needs a name: a profile shipped with Penstock, for example llama-3.1-8b-h100",
        parser="spec.engine.profile.name: type Named needs a name: a profile shipped with Penstock, for "
        "example llama-3.1-8b-h100",
    ),
    "a name of a learned profile": Refusal(
        least(engine={"profile": {"name": "x"}}),
        where="spec.engine.profile.name",
        value="object",
        rule="name applies with type Named only: set type: Named or remove name",
        parser="spec.engine.profile.name: name applies with type Named only: set type: Named or remove name",
    ),
    "an inline profile without parameters": Refusal(
        least(engine={"profile": {"type": "Inline"}}),
        where="spec.engine.profile.inline",
        value="object",
        rule="type Inline needs inline: the parameters of the step law, for example inline: "
        '{t0Milliseconds: "5.298", kvCapacityTokens: 432992}',
        parser="spec.engine.profile.inline: type Inline needs inline: the parameters of the step law, for "
        'example inline: {t0Milliseconds: "5.298", kvCapacityTokens: 432992}',
    ),
    "parameters of a learned profile": Refusal(
        least(engine={"profile": {"inline": {"t0Milliseconds": "5", "kvCapacityTokens": 1}}}),
        where="spec.engine.profile.inline",
        value="object",
        rule="inline applies with type Inline only: set type: Inline or remove inline",
        parser="spec.engine.profile.inline: inline applies with type Inline only: set type: Inline or "
        "remove inline",
    ),
    "half a mixture of experts": Refusal(
        least(
            engine={
                "profile": {
                    "type": "Inline",
                    "inline": {"t0Milliseconds": "5", "kvCapacityTokens": 1, "n0Tokens": 5},
                }
            }
        ),
        where="spec.engine.profile.inline",
        value="object",
        rule="mMilliseconds and n0Tokens go together: write both or neither",
        parser="spec.engine.profile.inline: mMilliseconds and n0Tokens go together: write both or neither",
    ),
    "a step that takes no time": Refusal(
        least(
            engine={
                "profile": {
                    "type": "Inline",
                    "inline": {"t0Milliseconds": "0.00", "twMilliseconds": "0e-3", "kvCapacityTokens": 1},
                }
            }
        ),
        where="spec.engine.profile.inline",
        value="object",
        rule="t0Milliseconds and twMilliseconds are both zero: measure one: a step takes time",
        parser="spec.engine.profile.inline: t0Milliseconds and twMilliseconds are both zero: "
        "measure one: a step takes time",
    ),
    "a parameter that is no decimal": Refusal(
        least(
            engine={"profile": {"type": "Inline", "inline": {"t0Milliseconds": "-1", "kvCapacityTokens": 1}}}
        ),
        where="spec.engine.profile.inline.t0Milliseconds",
        value="string",
        rule='write a decimal in quotes, for example "5.298" or "1.15e-06"',
        parser='spec.engine.profile.inline.t0Milliseconds: "-1" does not fit: write a decimal in quotes, '
        'for example "5.298" or "1.15e-06"',
    ),
    "no target": Refusal(
        least(workload={}),
        where="spec.workload.targetRef",
        value="object",
        rule="type Target needs a targetRef: name the workload to scale, for example targetRef: {kind: "
        "Deployment, name: chat}",
        parser="spec.workload.targetRef: missing: name the workload to scale, for example targetRef: "
        "{kind: Deployment, name: chat}",
    ),
    "a name that cannot be a Service's": Refusal(
        least() | {"metadata": {"name": "9chat"}},
        where="<nil>",
        value="object",
        rule="metadata.name becomes the name of Services: write at most 46 characters of a-z, 0-9 and -, "
        "starting with a letter and ending with a letter or digit",
        parser='metadata.name: "9chat" becomes the name of Services: write at most 46 characters of a-z, '
        "0-9 and -, starting with a letter and ending with a letter or digit",
    ),
    "a name that is too long": Refusal(
        least() | {"metadata": {"name": "a" * 47}},
        where="<nil>",
        value="object",
        rule="metadata.name becomes the name of Services: write at most 46 characters of a-z, 0-9 and -, "
        "starting with a letter and ending with a letter or digit",
        parser='metadata.name: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" becomes the name of '
        "Services: write at most 46 characters of a-z, 0-9 and -, starting with a letter and ending "
        "with a letter or digit",
    ),
}


@pytest.mark.parametrize("bad", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_bad_resource_is_refused_with_advice(apiserver: ApiServer, bad: Refusal) -> None:
    assert bad.by_api_server(apiserver) == bad.expected
    assert bad.by_parser() == bad.parser


def test_a_mode_that_does_not_exist_is_refused(apiserver: ApiServer) -> None:
    _, answer = apiserver.request("POST", f"{SERVICES}?dryRun=All", least(mode="Apply"))
    expected = 'spec.mode: Unsupported value: "Apply": supported values: "Observe", "Enforce", "Paused"'
    assert expected in answer["message"]
    with pytest.raises(InvalidSpec) as refused:
        parse_service(least(mode="Apply"))
    assert str(refused.value) == 'spec.mode: "Apply" is not known: write Observe, Enforce or Paused'


def test_the_longest_name_is_accepted(apiserver: ApiServer) -> None:
    body = least() | {"metadata": {"name": "a" * 46}}
    assert apiserver.request("POST", f"{SERVICES}?dryRun=All", body)[0] == 201
    assert parse_service(body).key.name == "a" * 46
