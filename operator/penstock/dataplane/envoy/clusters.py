"""CDS: the clusters of one service, written once. No limit is in them: see runtime.py.

* The primary, by EDS.
* Per class that may spill, one into the fallback's pool: so that classes are counted apart.
* Rescue, into the same pool, and the composite of primary and rescue, for what the primary fails before the
  first byte. That is a retry; circuit-breaker overflow is never retried.
* While there is a canary, one for its pods, and the composite of it and the primary. What fails on the canary
  before the first byte is answered by the stable arm and counted as the canary's error (arm_counts.py).
* Per class, one without endpoints: its counter is the class's 429.

The retry policy stands at the cluster, not at the route: only the composite may retry a 429 or 503, because
there the second attempt goes to another pool. All others retry what the engine never got, on another host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.bootstrap import xds_source
from penstock.dataplane.envoy.lost_peers import asked_and_timed
from penstock.dataplane.envoy.names import EXTENSION
from penstock.dataplane.envoy.runtime import RETRY_BUDGET_MINIMUM, RETRY_BUDGET_PERCENT
from penstock.model.traffic import RoutePlan

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CEILING: Final = 1_000_000  # runtime keys set what is meant; Envoy's own default of 1024 would bind
_SOON: Final = {"base_interval": "0.005s", "max_interval": "0.02s"}
_NEVER_SENT: Final = "connect-failure,refused-stream,reset-before-request"


def clusters(plan: RoutePlan) -> dict[str, dict[str, Any]]:
    """Return the clusters of a plan by name; its limits do not matter."""
    built = [_pool(names.cluster_name(plan.key), plan)]
    built += [_shed(names.shed_cluster(plan.key, each)) for each in names.request_classes(plan)]
    if plan.fallback is not None:
        for each in names.classes_that_may_spill(plan):
            built.append(_pool(names.spill_cluster(plan.key, each), plan))
        built.append(_pool(names.rescue_cluster(plan.key), plan))
        built.append(_primary_first(plan))
    if plan.canary is not None:
        built += [_pool(names.canary_cluster(plan.key), plan), _canary_first(plan)]
    return {cluster["name"]: cluster for cluster in built}


def _pool(name: str, plan: RoutePlan) -> dict[str, Any]:
    return {
        "@type": names.CDS,
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "eds_config": xds_source(),
            "service_name": name,
        },
        "connect_timeout": "0.5s",  # a pod that is gone takes all new requests for as long
        **asked_and_timed(),
        "load_balancing_policy": _balancer(plan),
        # At 50 %, Envoy's default, it would send to draining pods as soon as they are half of all.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": _breakers(),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _http_options(_retry_elsewhere())},
        "outlier_detection": _outlier_detection(),
        "track_cluster_stats": {"per_endpoint_stats": True},
    }


def _shed(name: str) -> dict[str, Any]:
    return {
        "@type": names.CDS,
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name},
        "metadata": {"filter_metadata": {names.METADATA: {"reason": names.REASON_SHED}}},
    }


def _primary_first(plan: RoutePlan) -> dict[str, Any]:
    members = (names.cluster_name(plan.key), names.rescue_cluster(plan.key))
    rescue = {
        # Refused by the engine, or ended before the first byte: the other model may have room.
        "retry_on": f"{_NEVER_SENT},reset,retriable-status-codes",
        "retriable_status_codes": [429, 503],
        "num_retries": 1,
        "retry_back_off": _SOON,
    }
    return _composite(names.any_cluster(plan.key), members, rescue, _breakers())


def _canary_first(plan: RoutePlan) -> dict[str, Any]:
    members = (names.canary_cluster(plan.key), names.cluster_name(plan.key))
    # Any 5xx, not only refusals: a broken image answers 500. Not 429: that is its answer, and no error.
    rescue = {"retry_on": "5xx", "num_retries": 1, "retry_back_off": _SOON}
    # Each request is asked twice at most, and no more than the canary's share of them: a budget would turn
    # the rest of a broken canary's requests into failures.
    return _composite(names.canary_any_cluster(plan.key), members, rescue, _breakers(_CEILING))


def _composite(
    name: str, members: Sequence[str], retries: dict[str, Any], breakers: dict[str, Any]
) -> dict[str, Any]:
    return {
        "@type": names.CDS,
        "name": name,
        "connect_timeout": "2s",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {
            "name": "envoy.clusters.composite",
            "typed_config": {
                "@type": EXTENSION + "clusters.composite.v3.ClusterConfig",
                "clusters": [{"name": member} for member in members],
            },
        },
        "circuit_breakers": breakers,
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _http_options(retries)},
    }


def _balancer(plan: RoutePlan) -> dict[str, Any]:
    if plan.balanced_fully:
        policy = {
            "name": "envoy.load_balancing_policies.least_request",
            "typed_config": {
                "@type": EXTENSION + "load_balancing_policies.least_request.v3.LeastRequest",
                "selection_method": "FULL_SCAN",
            },
        }
    else:
        policy = {
            "name": "envoy.load_balancing_policies.random",
            "typed_config": {"@type": EXTENSION + "load_balancing_policies.random.v3.Random"},
        }
    return {"policies": [{"typed_extension_config": policy}]}


def _breakers(least_retries: int = RETRY_BUDGET_MINIMUM) -> dict[str, Any]:
    ceilings = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _CEILING)
    budget = {
        "budget_percent": {"value": RETRY_BUDGET_PERCENT},
        "min_retry_concurrency": least_retries,
    }
    return {"thresholds": [{**ceilings, "retry_budget": budget}]}


def _http_options(retry_policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": EXTENSION + "upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        # vLLM's server closes idle connections after 5 s: a request sent at that moment would be lost. And
        # max_connections only keeps new ones out: under a limit that fell from 30 to 20, 30 connections kept
        # serving for as long as they were busy. Those that last 5 s close when they are free.
        "common_http_protocol_options": {"idle_timeout": "4s", "max_connection_duration": "5s"},
        "retry_policy": retry_policy,
    }


def _retry_elsewhere() -> dict[str, Any]:
    return {
        "retry_on": _NEVER_SENT,
        # A pod that is gone has the fewest requests, so the scan finds it again and again: the second failure
        # puts it aside, and on a busy machine the third attempt still came before that was known.
        "num_retries": 3,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": EXTENSION + "retry.host.previous_hosts.v3.PreviousHostsPredicate",
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }


def _outlier_detection() -> dict[str, Any]:
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "base_ejection_time": "5s",
        "max_ejection_percent": 50,
        "interval": "1s",
    }
