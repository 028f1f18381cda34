"""What `penstock explain` reads: the live resource, and from Prometheus what its status does not carry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from penstock.kube.aio_client import AioKubeApi
from penstock.kube.api import INFERENCE_SERVICES, PODS, Forbidden, KubeError, NotFound, Unavailable
from penstock.metrics_source.base import MetricsSource
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.identity import SeriesSettings, Watched
from penstock.model.observation import Load
from penstock.model.parse import InvalidSpec, parse_service
from penstock.model.resource_status import LoadSource
from penstock.model.revision import owned_target
from penstock.model.spec import ServiceKey, ServiceSpec, TargetRef, WorkloadType
from penstock.policy import wording
from penstock.policy.beliefs import offered_rate
from penstock.policy.lengths import LengthMoments, histogram_moments

MOST_NAMES = 8


class ExplainFault(click.ClickException):
    """Why nothing can be explained: the cause, and what to do."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}\nFix: {fix}")


@dataclass(frozen=True, slots=True)
class Live:
    """A resource as the API server has it; `spec` None: it cannot be read, `fault` says why."""

    key: ServiceKey
    mode: str
    generation: int
    status: Mapping[str, Any]
    spec: ServiceSpec | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of prompts and answers in tokens, and who says so."""

    input: LengthMoments
    output: LengthMoments
    source: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What Prometheus knows now of the offered rate and of lengths; None, and why not."""

    rate_per_second: float | None = None
    lengths: Lengths | None = None
    why_no_rate: str = ""
    why_no_lengths: str = ""

    @classmethod
    def nothing(cls, why: str) -> Measured:
        """Return that neither is known, for one reason."""
        return cls(why_no_rate=why, why_no_lengths=why)


async def read_live(kube: AioKubeApi, key: ServiceKey) -> Live:
    """Return the live resource. Raises `ExplainFault`."""
    try:
        body = await kube.get(INFERENCE_SERVICES, key.namespace, key.name)
    except NotFound:
        raise await _not_found(kube, key) from None
    except Forbidden as error:
        raise _forbidden(error, key) from None
    except Unavailable as error:
        raise _unavailable(error) from None
    except KubeError as error:
        raise ExplainFault(error.message, "write NAMESPACE/NAME as kubectl get psvc -A shows it") from None
    return live_of(body)


def live_of(body: Mapping[str, Any]) -> Live:
    """Return the resource of an API object."""
    metadata = body.get("metadata") or {}
    key = ServiceKey(str(metadata.get("namespace") or "default"), str(metadata.get("name")))
    mode = str((body.get("spec") or {}).get("mode") or "Enforce")
    generation, status = int(metadata.get("generation") or 0), body.get("status") or {}
    try:
        return Live(key, mode, generation, status, parse_service(body))
    except InvalidSpec as error:
        return Live(key, mode, generation, status, None, f"{error.path}: {error.cause}: {error.fix}")


async def read_measured(
    kube: AioKubeApi, source: MetricsSource, live: Live, settings: SeriesSettings
) -> Measured:
    """Return offered rate and lengths as Prometheus shows them for the pods of the target."""
    spec = live.spec
    if spec is None:
        return Measured.nothing(live.fault)
    try:
        pods = await _pods(kube, spec, target_of(live))
    except KubeError as error:
        return Measured.nothing(f"the pods of {target_of(live)} cannot be listed: {error.message}")
    if pods is None:
        return Measured.nothing(f"the /scale of {target_of(live)} names no selector: its pods are not known")
    if not pods:
        return Measured.nothing(f"{target_of(live)} has no pods")
    load = (await Collector(source, settings).collect([Watched(spec, pods=pods)], at=time.time()))[spec.key]
    rate, why_no_rate = _offered(load, live.status)
    moments = None
    if load.input_lengths is not None and load.output_lengths is not None:
        found = histogram_moments(load.input_lengths), histogram_moments(load.output_lengths)
        if found[0] is not None and found[1] is not None:
            moments = Lengths(found[0][0], found[1][0], "Prometheus, the last 5 minutes")
    if moments is not None:
        return Measured(rate, moments, why_no_rate)
    why_no_lengths = load.arrival_rate.detail or "no request of the last 5 minutes has lengths"
    return Measured(rate, None, why_no_rate, why_no_lengths)


def target_of(live: Live) -> TargetRef | None:
    """Return the workload that serves; of an owned one the Deployment of its stable revision."""
    if live.spec is None:
        return None
    stable = str((live.status.get("canary") or {}).get("stableRevision") or "")
    if live.spec.workload_type is WorkloadType.TEMPLATE and stable:
        return owned_target(live.key.name, stable)
    return live.spec.target


def _offered(load: Load, status: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the offered rate as decisions take it (1/s), or why engines do not tell it."""
    arrival = load.arrival_rate.value
    if arrival is None:
        return None, load.arrival_rate.detail or "there is no rate of requests"
    served = f"{wording.rate(arrival)} req/s"
    if (status.get("load") or {}).get("source") == LoadSource.GATEWAY:
        return None, f"the engines serve {served}, what is offered is counted at the gateways"
    share = (status.get("canary") or {}).get("weightPercent")
    if share:
        return None, f"the stable arm's engines serve {served}, the canary has {share} % of the requests"
    return offered_rate(load, arrival), ""


async def _pods(kube: AioKubeApi, spec: ServiceSpec, target: TargetRef | None) -> frozenset[str] | None:
    """Return the names of the target's pods; None where nothing tells them from others."""
    if target is None:
        return frozenset()
    resource = await kube.resource_of(target.group, target.kind)
    scale = await kube.get_scale(resource, spec.key.namespace, target.name)
    if not scale.selector:
        return None
    pods = await kube.list(PODS, spec.key.namespace, label_selector=scale.selector)
    return frozenset(str(each["metadata"]["name"]) for each in pods)


async def _not_found(kube: AioKubeApi, key: ServiceKey) -> ExplainFault:
    """Say whether the name, the namespace or the whole API is missing."""
    try:
        found = await kube.list(INFERENCE_SERVICES)
    except NotFound:
        return ExplainFault(
            "this cluster has no InferenceService of serving.penstock.dev: its definition is not installed",
            "install it: kubectl apply -f crds/, or the chart",
        )
    except KubeError:
        return ExplainFault(
            f"there is no InferenceService {key}", "kubectl get psvc -A shows which there are"
        )
    names = sorted(f"{each['metadata'].get('namespace')}/{each['metadata']['name']}" for each in found)
    if not names:
        return ExplainFault(
            f"there is no InferenceService {key}, nor any other", "create one; see manifests/samples"
        )
    near = [
        each for each in names if each.endswith(f"/{key.name}") or each.startswith(f"{key.namespace}/")
    ] or names
    more = f" and {len(near) - MOST_NAMES} more" if len(near) > MOST_NAMES else ""
    return ExplainFault(
        f"there is no InferenceService {key}", f"write one of {', '.join(near[:MOST_NAMES])}{more}"
    )


def _forbidden(error: KubeError, key: ServiceKey) -> ExplainFault:
    what = "--verb=get,list --resource=inferenceservices.serving.penstock.dev"
    return ExplainFault(
        f"the API server refuses: {error.message}",
        f"use a kubeconfig that may read InferenceServices in {key.namespace}, or grant it: "
        f"kubectl create role penstock-reader {what}",
    )


def _unavailable(error: KubeError) -> ExplainFault:
    return ExplainFault(
        f"no answer from the cluster: {error.message}",
        "check kubectl cluster-info, or give another --kubeconfig",
    )
