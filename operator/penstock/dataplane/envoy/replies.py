"""What the gateway answers itself: 429 when shed, 503 when there is nobody to ask; as OpenAI's errors look.

A shed request has no endpoint to go to, like one of a service that has none: the cluster's metadata tells
them apart. A circuit breaker's overflow is 429 as well. ``Retry-After`` stands in the route: it may change.
"""

from __future__ import annotations

from typing import Any

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.names import EXTENSION, METADATA

_RETRY_AFTER = f"%METADATA(ROUTE:{METADATA}:retry_after_seconds)%"
_SHED = f"xds.cluster_metadata.filter_metadata['{METADATA}']['reason'] == '{names.REASON_SHED}'"
# Not the flag UO: that one also marks a failure whose retry the budget forbade, which is a 503.
_OVERFLOW = "response.code_details.contains('{overflow}')"


def local_replies() -> dict[str, Any]:
    """Return the ``local_reply_config`` of every listener."""
    return {
        "mappers": [
            {
                "filter": {"or_filter": {"filters": [_when(_SHED), _when(_OVERFLOW)]}},
                "status_code": 429,
                "headers_to_add": [
                    _set("retry-after", _RETRY_AFTER),
                    _set(names.SERVED_BY, names.NOBODY),
                    _set(names.REASON, names.REASON_SHED),
                ],
                "body_format_override": _error(
                    message=f"This service is at its limit. Try again in {_RETRY_AFTER} s.",
                    kind="rate_limit_error",
                    code="overloaded",
                ),
            },
            _unavailable(
                _when("response.code_details == 'overload'"),
                "This gateway's memory is nearly used up. Try again.",
            ),
            _unavailable(
                {"status_code_filter": _at_least(500)},
                "No replica of this service answered: %RESPONSE_CODE_DETAILS%.",
            ),
        ]
    }


def _unavailable(filtered: dict[str, Any], message: str) -> dict[str, Any]:
    return {
        "filter": filtered,
        "headers_to_add": [
            _set(names.SERVED_BY, names.NOBODY),
            _set(names.REASON, names.REASON_UNAVAILABLE),
        ],
        "body_format_override": _error(message=message, kind="server_error", code="unavailable"),
    }


def _when(expression: str) -> dict[str, Any]:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": EXTENSION + "access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": expression,
            },
        }
    }


def _set(key: str, value: str) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _at_least(status: int) -> dict[str, Any]:
    return {
        "comparison": {
            "op": "GE",
            "value": {"default_value": status, "runtime_key": "penstock.failure_status"},
        }
    }


def _error(*, message: str, kind: str, code: str) -> dict[str, Any]:
    return {"json_format": {"error": {"message": message, "type": kind, "param": None, "code": code}}}
