"""``spec.admission``, ``spec.fallback`` and ``spec.routing``: what may be done with requests, and by what."""

from __future__ import annotations

from collections import Counter

from penstock.model.fields import NAME, Fields, InvalidSpec
from penstock.model.spec import (
    AdmissionPolicy,
    AdmissionSpec,
    BackendKind,
    BackendRef,
    Balancer,
    FallbackSpec,
    HttpRouteRef,
    Mode,
    RequestClass,
    RoutingSpec,
    RoutingType,
)

MOST_CLASSES = 8

_CLASS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_CLASS_FIX = "write the name of a class in lower case, for example interactive"
# The gateway strips what clients send under its own names, so no class would ever arrive.
HEADER = r"(?!x-envoy-|x-penstock-)[a-z0-9]([-a-z0-9_]*[a-z0-9])?"
_MODES = (Mode.OBSERVE, Mode.ENFORCE)  # Paused is for the whole service
_OF_ENVOY = (Balancer.LEAST_REQUESTS, Balancer.RANDOM)
_ADMISSION, _ROUTING, _CLASSES = AdmissionSpec(), RoutingSpec(), RequestClass("", 0)
_BACKEND = BackendRef("")
_FALLBACK = FallbackSpec(_BACKEND)


def parse_admission(admission: Fields) -> AdmissionSpec:
    """Return the limits on requests in flight, defaults applied. Raises `InvalidSpec`."""
    policy = admission.choice("policy", AdmissionPolicy, _ADMISSION.policy)
    parsed = AdmissionSpec(
        mode=admission.choice("mode", _MODES, _ADMISSION.mode),
        policy=policy,
        static_in_flight_per_replica=_static_limit(admission, policy),
        class_header=admission.text(
            "classHeader",
            default=_ADMISSION.class_header,
            longest=64,
            pattern=HEADER,
            fix="write a header in lower case, for example x-request-class; x-envoy-* and x-penstock-* are "
            "the gateway's own",
        ),
        default_class=admission.text(
            "defaultClass", default=_ADMISSION.default_class, longest=63, pattern=_CLASS, fix=_CLASS_FIX
        ),
        classes=_classes(admission),
    )
    _check_default_class(admission, parsed)
    return parsed


def parse_fallback(fallback: Fields, service_name: str) -> FallbackSpec:
    """Return where the excess of the service `service_name` goes. Raises `InvalidSpec`."""
    ref = fallback.required_section(
        "backendRef", "name the service that takes the excess, for example backendRef: {name: chat-small}"
    )
    backend = _backend(ref)
    if backend.kind is BackendKind.INFERENCE_SERVICE and backend.name == service_name:
        raise ref.fault(
            "name", "a service cannot be its own fallback", "name another service, or remove fallback"
        )
    return FallbackSpec(
        backend=backend,
        mode=fallback.choice("mode", _MODES, _FALLBACK.mode),
        max_percent=fallback.integer("maxPercent", default=_FALLBACK.max_percent, lowest=1, highest=100),
        classes=class_names(fallback, "classes"),
    )


def parse_routing(routing: Fields) -> RoutingSpec:
    """Return what is done in the request path, and by what. Raises `InvalidSpec`."""
    routing_type = routing.choice("type", RoutingType, _ROUTING.type)
    if routing.has("envoy") and routing_type is not RoutingType.ENVOY:
        raise routing.fault("envoy", "envoy applies with type Envoy only", "set type: Envoy or remove envoy")
    return RoutingSpec(
        type=routing_type,
        tls_secret=_tls_secret(routing.section("envoy")),
        http_route=_http_route(routing, routing_type),
    )


def parse_balancer(routing: Fields, routing_type: RoutingType) -> Balancer:
    """Return how requests are spread over the replicas: by what is in front where nothing is written.

    The schema has no default for it, as that would depend on another field.
    """
    if routing_type is not RoutingType.ENVOY:
        return routing.choice("balancer", Balancer, Balancer.RANDOM)  # kube-proxy, or nobody knows
    balancer = routing.choice("balancer", Balancer, Balancer.LEAST_REQUESTS)
    if balancer not in _OF_ENVOY:
        raise routing.fault(
            "balancer",
            "type Envoy balances by LeastRequests (default) or Random",
            "write one of them",
        )
    return balancer


def class_names(fields: Fields, name: str) -> tuple[str, ...]:
    """Return a list of names of request classes; an absent one is empty and means all."""
    names: list[str] = []
    for entry, path in fields.items(name, largest=MOST_CLASSES):
        parent, _, last = path.rpartition(".")  # an entry is read like a field, by the same rules
        text = Fields({last: entry}, parent).text(last, longest=63, pattern=_CLASS, fix=_CLASS_FIX)
        if text in names:
            raise InvalidSpec(path, f'"{text}" is there twice', "write each name once")
        names.append(text)
    return tuple(names)


def _static_limit(admission: Fields, policy: AdmissionPolicy) -> int | None:
    if policy is not AdmissionPolicy.STATIC:
        if admission.has("static"):
            raise admission.fault(
                "static", "static applies with policy Static only", "set policy: Static or remove static"
            )
        return None
    if not admission.has("static"):
        raise admission.fault(
            "static", "policy Static needs static", "for example static: {maxInFlightPerReplica: 64}"
        )
    return admission.section("static").integer("maxInFlightPerReplica", lowest=1, highest=65536)


def _classes(admission: Fields) -> tuple[RequestClass, ...]:
    classes: list[RequestClass] = []
    for entry, path in admission.items("classes", largest=MOST_CLASSES):
        fields = Fields(entry, path)
        name = fields.text("name", longest=63, pattern=_CLASS, fix=_CLASS_FIX)
        if any(each.name == name for each in classes):
            raise fields.fault("name", f'"{name}" is there twice', "write each name once")
        classes.append(
            RequestClass(
                name,
                priority=fields.integer("priority", lowest=0, highest=1_000_000),
                max_percent=fields.integer("maxPercent", default=_CLASSES.max_percent, lowest=1, highest=100),
            )
        )
    for priority, count in Counter(each.priority for each in classes).items():
        if count > 1:
            alike = " and ".join(each.name for each in classes if each.priority == priority)
            raise admission.fault(
                "classes",
                f"equal priorities ({alike} have {priority})",
                "give each class its own, the highest is shed last",
            )
    return tuple(classes)


def _check_default_class(admission: Fields, parsed: AdmissionSpec) -> None:
    names = [each.name for each in parsed.classes]
    if not names and (parsed.class_header or parsed.default_class):
        raise admission.fault(
            "classes",
            "classHeader and defaultClass apply with classes only",
            "list classes, or remove them",
        )
    if not names or parsed.default_class in names:
        return
    if not parsed.default_class:
        raise admission.fault(
            "defaultClass",
            "classes need a defaultClass, for requests that name none",
            f"write the name of one of the classes: {', '.join(names)}",
        )
    raise admission.fault(
        "defaultClass",
        f'defaultClass "{parsed.default_class}" is not among classes',
        f"write the name of one of the classes: {', '.join(names)}",
    )


def _backend(ref: Fields) -> BackendRef:
    backend = BackendRef(
        kind=ref.choice("kind", BackendKind, _BACKEND.kind),
        name=ref.text(
            "name",
            longest=63,
            pattern=NAME,
            fix="write the name of a service in this namespace, for example chat-small",
        ),
        port=ref.optional_integer("port", lowest=1, highest=65535),
        max_in_flight=ref.optional_integer("maxInFlight", lowest=1, highest=1_000_000),
    )
    if backend.kind is BackendKind.SERVICE:
        if backend.port is None or backend.max_in_flight is None:
            raise ref.fault(
                "",
                "kind Service needs port and maxInFlight, for nobody else limits what is sent there",
                "for example port: 8000, maxInFlight: 64",
            )
    elif backend.port is not None or backend.max_in_flight is not None:
        raise ref.fault(
            "",
            "port and maxInFlight apply with kind Service only, an InferenceService has its own",
            "set kind: Service or remove them",
        )
    return backend


def _tls_secret(envoy: Fields) -> str:
    if not envoy.has("tls"):
        return _ROUTING.tls_secret
    return envoy.section("tls").text(
        "secretName",
        longest=253,
        pattern=NAME,
        fix="write the name of a Secret in this namespace, for example chat-tls",
    )


def _http_route(routing: Fields, routing_type: RoutingType) -> HttpRouteRef | None:
    if routing_type is not RoutingType.GATEWAY_API:
        if routing.has("gatewayAPI"):
            raise routing.fault(
                "gatewayAPI",
                "gatewayAPI applies with type GatewayAPI only",
                "set type: GatewayAPI or remove gatewayAPI",
            )
        return None
    if not routing.has("gatewayAPI"):
        raise routing.fault(
            "gatewayAPI",
            "type GatewayAPI needs gatewayAPI",
            "name the rule, for example gatewayAPI: {httpRouteRef: {name: chat, rule: main}}",
        )
    ref = routing.section("gatewayAPI").required_section(
        "httpRouteRef", "name the rule, for example httpRouteRef: {name: chat, rule: main}"
    )
    return HttpRouteRef(
        name=ref.text(
            "name",
            longest=253,
            pattern=NAME,
            fix="write the name of an HTTPRoute in this namespace, for example chat",
        ),
        rule=ref.text(
            "rule",
            longest=253,
            pattern=NAME,
            fix="write the name of a rule of the HTTPRoute, for example main",
        ),
    )
