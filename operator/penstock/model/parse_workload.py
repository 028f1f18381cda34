"""``spec.workload``: what serves, by reference or as a pod template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.model.fields import NAME, Fields, InvalidSpec
from penstock.model.references import ServiceRef, TargetRef
from penstock.model.revision import WorkloadTemplate, owned_target, workload_template
from penstock.model.spec import WorkloadType

MOST_CONTAINERS = 32
# The deepest field that Kubernetes has in a pod template is 12 objects and lists down. At 495 Python gave up.
MOST_LEVELS = 32
LONGEST_ANNOTATION = 262_144  # Kubernetes' bound on all of them together
_CONTAINER = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


@dataclass(frozen=True, slots=True)
class WorkloadParts:
    """What `spec.workload` says; with a template, `target` is the Deployment of its revision."""

    type: WorkloadType
    target: TargetRef
    template: WorkloadTemplate | None
    service: ServiceRef | None
    model_names: tuple[str, ...]


def parse_workload(workload: Fields, service: str) -> WorkloadParts:
    """Return what serves the service of that name. Raises `InvalidSpec`."""
    kind = workload.choice("type", WorkloadType, WorkloadType.TARGET)
    template = None
    if kind is WorkloadType.TEMPLATE:
        template = _template(workload)
        target = owned_target(service, template.revision)
    else:
        if workload.has("template"):
            raise workload.fault(
                "template", "template applies with type Template only", "remove it, or set type: Template"
            )
        target = parse_target(
            workload.required_section(
                "targetRef",
                "name the workload to scale, for example targetRef: {kind: Deployment, name: chat}",
            )
        )
    return WorkloadParts(kind, target, template, _service_ref(workload), _model_names(workload))


def _template(workload: Fields) -> WorkloadTemplate:
    if workload.has("targetRef"):
        raise workload.fault(
            "targetRef", "targetRef applies with type Target only", "remove it, or set type: Target"
        )
    template = workload.required_section(
        "template",
        "write the pod template, for example template: {spec: {containers: [{name: engine, image: ...}]}}",
    )
    pod = template.required_section("spec", "write the pod's spec, with its containers")
    containers = pod.items("containers", largest=MOST_CONTAINERS)
    if not containers:
        raise pod.fault("containers", "no container", "write at least one")
    names: list[str] = []
    for entry, path in containers:
        name = Fields(entry, path).text(
            "name",
            longest=63,
            pattern=_CONTAINER,
            fix="write the name of a container in lower case, for example engine",
        )
        if name in names:
            raise InvalidSpec(f"{path}.name", f'"{name}" is there twice', "write each name once")
        names.append(name)
    _check_metadata(template.section("metadata"))
    body: Any = workload.value("template")
    if _is_deeper(body, MOST_LEVELS):
        raise workload.fault(
            "template",
            f"more than {MOST_LEVELS} objects and lists inside one another",
            "write a pod template as Deployments have it",
        )
    return workload_template(body)


def _check_metadata(metadata: Fields) -> None:
    """Refuse labels and annotations that are no strings by name, as the API server does in pods."""
    for kind, example in (("labels", '{tier: "1"}'), ("annotations", '{prometheus.io/scrape: "true"}')):
        words, names = metadata.section(kind), metadata.value(kind)
        for name in names if isinstance(names, Mapping) else ():
            words.text(
                name,
                default="",
                longest=LONGEST_ANNOTATION,
                fix=f"write the value in quotes, for example {kind}: {example}",
            )


def _is_deeper(template: Mapping[str, object], most: int) -> bool:
    """Whether more than `most` objects and lists are inside one another; asked without recursion."""
    level: list[Mapping[str, object] | list[object]] = [template]
    for _ in range(most):
        inner = (each.values() if isinstance(each, Mapping) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, Mapping | list)]
    return bool(level)


def parse_target(ref: Fields) -> TargetRef:
    """Return a reference to a workload. Raises `InvalidSpec`."""
    return TargetRef(
        group=ref.text(
            "group",
            default="apps",
            longest=253,
            pattern=rf"({NAME})?",
            fix="write an API group without its version, for example apps",
        ),
        kind=ref.text(
            "kind",
            default="Deployment",
            longest=63,
            pattern=r"[A-Z][A-Za-z0-9]*",
            fix="write the kind as manifests do, for example Deployment or StatefulSet",
        ),
        name=ref.text(
            "name",
            longest=253,
            pattern=NAME,
            fix="write the name of an object in this namespace, for example chat",
        ),
    )


def _service_ref(workload: Fields) -> ServiceRef | None:
    if not workload.has("serviceRef"):
        return None
    ref = workload.section("serviceRef")
    return ServiceRef(
        name=ref.text(
            "name",
            longest=63,
            pattern=NAME,
            fix="write the name of a Service in this namespace, for example chat",
        ),
        port=ref.optional_integer("port", lowest=1, highest=65535),
    )


def _model_names(workload: Fields) -> tuple[str, ...]:
    names: list[str] = []
    for name, path in workload.items("modelNames", largest=16):
        if not isinstance(name, str) or not 1 <= len(name) <= 253:
            raise InvalidSpec(path, f"{name!r} is not a model name", "write 1 to 253 characters")
        if name in names:
            raise InvalidSpec(path, f'"{name}" is there twice', "write each name once")
        names.append(name)
    return tuple(names)
