"""Which series of which engine count the requests that ended, by how they ended.

vLLM registers all reasons at its start (vllm/v1/metrics/loggers.py); without "error" it is a version that
does not count errors, which is not a version without errors. SGLang and TGI create a label with its first
request: where others are counted, an absent error is a true zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.model.spec import EngineType


@dataclass(frozen=True, slots=True)
class EndedSeries:
    """A selector whose series are told apart by `reason_label`.

    Reasons that match `errors` are the server's failures, those that match `others` ended well or by the
    client's will; the rest are no requests that were served. `advice` is for a server without errors.
    """

    selector: str  # without braces' end: matchers of the arms are appended
    name: str  # in messages
    reason_label: str
    errors: re.Pattern[str]
    others: re.Pattern[str]
    created_by_first: bool
    advice: str = ""


ENDED: Mapping[EngineType, EndedSeries] = {
    EngineType.VLLM: EndedSeries(
        selector="vllm:request_success_total{",
        name="vllm:request_success_total",
        reason_label="finished_reason",
        errors=re.compile("error"),
        others=re.compile(".*"),
        created_by_first=False,
        advice='this vLLM does not count failed requests (finished_reason="error"): use a newer one, or '
        "routing.type Envoy",
    ),
    # python/sglang/srt/utils/common.py, add_prometheus_track_response_middleware: /metrics and /health too.
    EngineType.SGLANG: EndedSeries(
        selector='sglang:http_responses_total{endpoint=~"/generate|/v1/.+",method="POST"',
        name="sglang:http_responses_total",
        reason_label="status_code",
        errors=re.compile("5.."),
        others=re.compile(".*"),
        created_by_first=True,
    ),
    # router/src/server.rs and infer/mod.rs: "validation" and the like are the client's mistakes.
    EngineType.TGI: EndedSeries(
        selector='{__name__=~"tgi_request_success|tgi_request_failure"',
        name="tgi_request_success",
        reason_label="err",
        errors=re.compile("generation|incomplete|overloaded"),
        others=re.compile(""),
        created_by_first=True,
    ),
}
NOT_COUNTED = "this engine does not count requests that fail: use routing.type Envoy, whose gateways do"
