"""What the user asks for: the InferenceService resource as frozen values.

Field by field the same as ``crds/``; ``tests`` walk the schema against these classes so that no
field or default can drift. Durations are seconds here, Go-style strings in YAML.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.model.canary_spec import CanarySpec as CanarySpec
from penstock.model.references import Mode as Mode
from penstock.model.references import ServiceKey as ServiceKey
from penstock.model.references import ServiceRef as ServiceRef
from penstock.model.references import TargetRef as TargetRef
from penstock.model.revision import WorkloadTemplate as WorkloadTemplate
from penstock.model.traffic_spec import AdmissionPolicy as AdmissionPolicy
from penstock.model.traffic_spec import AdmissionSpec as AdmissionSpec
from penstock.model.traffic_spec import BackendKind as BackendKind
from penstock.model.traffic_spec import BackendRef as BackendRef
from penstock.model.traffic_spec import FallbackSpec as FallbackSpec
from penstock.model.traffic_spec import HttpRouteRef as HttpRouteRef
from penstock.model.traffic_spec import RequestClass as RequestClass
from penstock.model.traffic_spec import RoutingSpec as RoutingSpec
from penstock.model.traffic_spec import RoutingType as RoutingType
from penstock.queueing.balancer import Balancer as Balancer

NOT_ROUTED, BY_THE_MODEL = RoutingSpec(), AdmissionSpec()


class Metric(StrEnum):
    """What a latency objective is about."""

    TTFT = "ttft"
    TPOT = "tpot"
    LATENCY = "latency"


class EngineType(StrEnum):
    """Which metric names to read."""

    VLLM = "VLLM"
    SGLANG = "SGLang"
    TGI = "TGI"
    LLAMA_CPP = "LlamaCpp"
    CUSTOM = "Custom"


class ProfileType(StrEnum):
    """Where the engine's timing comes from."""

    NAMED = "Named"
    INLINE = "Inline"
    LEARNED = "Learned"


class WorkloadType(StrEnum):
    """Where the workload comes from."""

    TARGET = "Target"  # exists already and stays its owner's
    TEMPLATE = "Template"  # a pod template: one Deployment of ours per revision


class Signal(StrEnum):
    """What a custom query measures: rates per second, counts, seconds by percentile."""

    ARRIVAL_RATE = "ArrivalRate"
    QUEUE_DEPTH = "QueueDepth"
    RUNNING = "Running"
    INPUT_TOKEN_RATE = "InputTokenRate"  # noqa: S105 - a count of tokens, not a credential
    OUTPUT_TOKEN_RATE = "OutputTokenRate"  # noqa: S105
    MEAN_TPOT = "MeanTPOT"
    TTFT_P50 = "TTFTP50"
    TTFT_P90 = "TTFTP90"
    TTFT_P95 = "TTFTP95"
    TTFT_P99 = "TTFTP99"
    TPOT_P50 = "TPOTP50"
    TPOT_P90 = "TPOTP90"
    TPOT_P95 = "TPOTP95"
    TPOT_P99 = "TPOTP99"
    LATENCY_P50 = "LatencyP50"
    LATENCY_P90 = "LatencyP90"
    LATENCY_P95 = "LatencyP95"
    LATENCY_P99 = "LatencyP99"


@dataclass(frozen=True, slots=True)
class Objective:
    """One latency objective: `percentile` (0..1) of `metric` at most `seconds`."""

    metric: Metric
    percentile: float
    seconds: float

    @property
    def name(self) -> str:
        """``ttft.p95``: the key in status and in messages."""
        return f"{self.metric}.p{round(self.percentile * 100)}"


@dataclass(frozen=True, slots=True)
class Slo:
    """What users of the service must get."""

    objectives: tuple[Objective, ...]
    availability_ratio: float = 0.995
    window_days: int = 28
    classes: tuple[str, ...] = ()  # request classes the objectives are about; empty: all


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """Measured service time of a request/response service (no tokens)."""

    mean_seconds: float
    scv: float = 1.0
    concurrency: int = 1
    max_batch: int = 1
    batch_scaling_ratio: float = 1.0  # time of a full batch / time of a batch of one


@dataclass(frozen=True, slots=True)
class CustomQuery:
    """A user's PromQL for one signal; wrapped so that it sees its own namespace only."""

    signal: Signal
    promql: str


@dataclass(frozen=True, slots=True)
class StepLawFields:
    """Inline engine profile, in the units of ``profiles/engines.csv`` (milliseconds)."""

    t0_milliseconds: float
    kv_capacity_tokens: int
    tw_milliseconds: float = 0.0
    g_milliseconds_per_token: float = 0.0
    a_milliseconds_per_token_pair: float = 0.0
    e_milliseconds_per_kv_token: float = 0.0
    h_milliseconds_per_sequence: float = 0.0
    m_milliseconds: float = 0.0  # mixtures of experts only, with n0_tokens
    n0_tokens: int = 0
    frontend_milliseconds: float = 10.3
    max_batched_tokens: int = 8192
    gpus: int = 1


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Which engine serves, and how fast it is."""

    type: EngineType = EngineType.VLLM
    profile_type: ProfileType = ProfileType.LEARNED
    profile_name: str = ""
    inline: StepLawFields | None = None
    max_concurrency: int = 256
    service_time: ServiceTime | None = None
    queries: tuple[CustomQuery, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """Bounds and pace of the replica count."""

    min: int = 1
    max: int = 10
    spare: int = 0
    initial_startup_seconds: float = 120.0
    scale_down_window_seconds: float = 300.0
    max_added_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class CostSpec:
    """What a replica costs."""

    per_replica_hour: float
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One InferenceService, parsed and valid."""

    key: ServiceKey
    uid: str
    generation: int
    mode: Mode
    target: TargetRef
    service: ServiceRef | None
    model_names: tuple[str, ...]
    slo: Slo
    engine: EngineSpec = EngineSpec()
    replicas: ReplicaSpec = ReplicaSpec()
    balancer: Balancer = Balancer.RANDOM
    cost: CostSpec | None = None
    workload_type: WorkloadType = WorkloadType.TARGET
    routing: RoutingSpec = NOT_ROUTED
    admission: AdmissionSpec = BY_THE_MODEL
    fallback: FallbackSpec | None = None
    canary: CanarySpec | None = None
    template: WorkloadTemplate | None = None  # with type Template only; `target` is its revision's Deployment

    @property
    def routing_type(self) -> RoutingType:
        """Return what is done in the request path."""
        return self.routing.type

    @property
    def turns_away(self) -> bool:
        """Whether requests beyond a limit are refused, once enforced: only gateways of ours can."""
        return self.routing.type is RoutingType.ENVOY and self.admission.policy is not AdmissionPolicy.OFF
