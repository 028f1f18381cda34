"""``spec.engine``: which server runs the model, and how fast it is."""

from __future__ import annotations

from penstock.model.fields import DECIMAL_WITH_EXPONENT, Fields
from penstock.model.spec import (
    CustomQuery,
    EngineSpec,
    EngineType,
    ProfileType,
    ServiceTime,
    Signal,
    StepLawFields,
)

_ENGINE, _SERVICE_TIME = EngineSpec(), ServiceTime(1.0)
_LAW = StepLawFields(t0_milliseconds=0.0, kv_capacity_tokens=1)


def parse_engine(engine: Fields) -> EngineSpec:
    """Return the engine that `engine` describes, defaults applied. Raises `InvalidSpec`."""
    engine_type = engine.choice("type", EngineType, _ENGINE.type)
    queries = _queries(engine)
    if engine_type is EngineType.CUSTOM and not queries:
        raise engine.fault(
            "queries",
            "type Custom needs queries",
            "one PromQL per signal, for example queries: [{signal: ArrivalRate, promql: ...}]",
        )
    if engine_type is not EngineType.CUSTOM and engine.has("queries"):
        raise engine.fault(
            "queries", "queries are read with type Custom only", "set type: Custom or remove them"
        )
    profile = engine.section("profile")
    profile_type = profile.choice("type", ProfileType, _ENGINE.profile_type)
    service_time = _service_time(engine.section("serviceTime")) if engine.has("serviceTime") else None
    if service_time is not None and profile_type is not ProfileType.LEARNED:
        raise engine.fault(
            "profile",
            "a request/response service has a serviceTime instead of a profile",
            "remove profile or serviceTime",
        )
    return EngineSpec(
        type=engine_type,
        profile_type=profile_type,
        profile_name=_profile_name(profile, profile_type),
        inline=_inline(profile, profile_type),
        max_concurrency=engine.integer(
            "maxConcurrency", default=_ENGINE.max_concurrency, lowest=1, highest=65536
        ),
        service_time=service_time,
        queries=queries,
    )


def _profile_name(profile: Fields, profile_type: ProfileType) -> str:
    if profile_type is ProfileType.NAMED:
        if not profile.value("name"):
            raise profile.fault(
                "name",
                "type Named needs a name",
                "a profile shipped with Penstock, for example llama-3.1-8b-h100",
            )
        return profile.text("name", longest=63, fix="write the name of a profile")
    if profile.has("name"):
        raise profile.fault("name", "name applies with type Named only", "set type: Named or remove name")
    return ""


def _inline(profile: Fields, profile_type: ProfileType) -> StepLawFields | None:
    if profile_type is not ProfileType.INLINE:
        if profile.has("inline"):
            raise profile.fault(
                "inline", "inline applies with type Inline only", "set type: Inline or remove inline"
            )
        return None
    if not profile.has("inline"):
        raise profile.fault(
            "inline",
            "type Inline needs inline",
            "the parameters of the step law, for example inline: "
            '{t0Milliseconds: "5.298", kvCapacityTokens: 432992}',
        )
    law = profile.section("inline")

    def decimal(name: str, default: float | None) -> float:
        fix = 'write a decimal in quotes, for example "5.298" or "1.15e-06"'
        return law.decimal(name, default=default, pattern=DECIMAL_WITH_EXPONENT, fix=fix)

    if law.has("mMilliseconds") != law.has("n0Tokens"):
        raise profile.fault("inline", "mMilliseconds and n0Tokens go together", "write both or neither")
    t0, tw = decimal("t0Milliseconds", None), decimal("twMilliseconds", _LAW.tw_milliseconds)
    if t0 + tw <= 0:
        raise profile.fault(
            "inline", "t0Milliseconds and twMilliseconds are both zero", "measure one: a step takes time"
        )
    return StepLawFields(
        t0_milliseconds=t0,
        tw_milliseconds=tw,
        g_milliseconds_per_token=decimal("gMillisecondsPerToken", _LAW.g_milliseconds_per_token),
        a_milliseconds_per_token_pair=decimal(
            "aMillisecondsPerTokenPair", _LAW.a_milliseconds_per_token_pair
        ),
        e_milliseconds_per_kv_token=decimal("eMillisecondsPerKVToken", _LAW.e_milliseconds_per_kv_token),
        h_milliseconds_per_sequence=decimal("hMillisecondsPerSequence", _LAW.h_milliseconds_per_sequence),
        m_milliseconds=decimal("mMilliseconds", _LAW.m_milliseconds),
        n0_tokens=law.optional_integer("n0Tokens", lowest=1, highest=1_000_000) or _LAW.n0_tokens,
        frontend_milliseconds=decimal("frontEndMilliseconds", _LAW.frontend_milliseconds),
        kv_capacity_tokens=law.integer("kvCapacityTokens", lowest=1, highest=1_000_000_000),
        max_batched_tokens=law.integer(
            "maxBatchedTokens", default=_LAW.max_batched_tokens, lowest=1, highest=10_000_000
        ),
        gpus=law.integer("gpus", default=_LAW.gpus, lowest=1, highest=1024),
    )


def _service_time(field: Fields) -> ServiceTime:
    examples = "200ms, 30s or 1m30s"
    mean = field.duration("mean", lowest=0.001, highest=3600, examples=examples)
    max_batch, ratio = _SERVICE_TIME.max_batch, _SERVICE_TIME.batch_scaling_ratio
    if field.has("batching"):
        batching = field.section("batching")
        max_batch = batching.integer("maxBatch", lowest=2, highest=4096)
        full = batching.duration("fullBatchMean", lowest=0.001, highest=3600, examples=examples)
        if full < mean:
            raise batching.fault(
                "fullBatchMean",
                "a full batch cannot take less time than one request",
                "write a fullBatchMean of at least mean",
            )
        ratio = full / mean
    return ServiceTime(
        mean_seconds=mean,
        scv=field.decimal(
            "scv",
            default=_SERVICE_TIME.scv,
            pattern=r"100|[0-9]{1,2}([.][0-9]{1,4})?",
            fix='write a decimal in quotes from "0" to "100", for example "0.1"',
        ),
        concurrency=field.integer("concurrency", default=_SERVICE_TIME.concurrency, lowest=1, highest=65536),
        max_batch=max_batch,
        batch_scaling_ratio=ratio,
    )


def _queries(engine: Fields) -> tuple[CustomQuery, ...]:
    queries: list[CustomQuery] = []
    for entry, path in engine.items("queries", largest=20):
        fields = Fields(entry, path)
        signal = fields.choice("signal", Signal)
        if any(query.signal is signal for query in queries):
            raise fields.fault("signal", f'"{signal.value}" is there twice', "write each signal once")
        fix = "write a query of 1 to 2048 characters that returns one value"
        queries.append(CustomQuery(signal, fields.text("promql", longest=2048, pattern=r"(?s).+", fix=fix)))
    return tuple(queries)
