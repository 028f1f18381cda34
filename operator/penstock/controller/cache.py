"""What the watches have told: the fleet as small values, fed by `on.event`, read by the tick.

Nothing is written from here. Each `see_*` takes a raw object that is newer than what is known (``feed.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from penstock.controller.claims import TargetClaims
from penstock.controller.found_revisions import RevisionIndex
from penstock.controller.revision_objects import ARM_LABEL, served_by
from penstock.controller.selectors import ServiceSelectors
from penstock.controller.workloads import Workload, WorkloadKey, read_workload, workload_key
from penstock.dataplane.envoy.manifests import is_ours
from penstock.model.canary import CANARY_ANNOTATION
from penstock.model.parse import InvalidSpec, parse_service
from penstock.model.references import SERVICE_KIND
from penstock.model.spec import ServiceKey, ServiceSpec, TargetRef

Object = Mapping[str, Any]
NO_PODS: frozenset[str] = frozenset()
NO_STATUS = b"{}"


@dataclass(frozen=True, slots=True)
class KnownService:
    """An InferenceService: its spec or what is wrong with it, and the status it carries.

    The status is needed where one is written, one in a hundred at a tick: as text it takes 2 KB, as
    dictionaries 8.
    """

    key: ServiceKey
    uid: str
    generation: int
    spec: ServiceSpec | None
    invalid: InvalidSpec | None
    status_json: bytes
    canary_command: str = ""  # the annotation that pauses, aborts or promotes a canary
    created: str = ""  # as the API server writes times

    @property
    def status(self) -> Object:
        """Return the status, {} where there is none."""
        status: Object = orjson.loads(self.status_json)
        return status


@dataclass(slots=True)
class FleetCache:
    """The watched objects that matter, by key."""

    services: dict[ServiceKey, KnownService] = field(default_factory=dict)
    workloads: dict[WorkloadKey, Workload] = field(default_factory=dict)
    # Autoscalers by what they scale: (namespace, kind, name) -> {"HorizontalPodAutoscaler/chat", ...}
    autoscalers: dict[WorkloadKey, set[str]] = field(default_factory=dict)
    # Owned workloads: their Deployments, the Services of arms, and the revision that each is served by.
    revisions: RevisionIndex = field(default_factory=RevisionIndex)
    own_services: set[tuple[str, str]] = field(default_factory=set)
    _claims: TargetClaims = field(default_factory=TargetClaims)
    _served_by: dict[ServiceKey, str] = field(default_factory=dict)
    _scaled_by: dict[tuple[str, str], WorkloadKey] = field(default_factory=dict)
    _selectors: ServiceSelectors = field(default_factory=ServiceSelectors)
    # Pods of each (namespace, Service) by EndpointSlice.
    _slices: dict[tuple[str, str], dict[str, frozenset[str]]] = field(default_factory=dict)
    _service_of: dict[tuple[str, str], str] = field(default_factory=dict)

    def see_service(self, body: Object) -> None:
        """Take in an InferenceService; a spec that is wrong becomes a value, not an error.

        What a defect of ours raises becomes a value too, and is raised then: ``feed.py`` tells of it.
        """
        metadata = body["metadata"]
        key = ServiceKey(metadata["namespace"], metadata["name"])
        if "deletionTimestamp" in metadata:
            # Its namespace goes, or a finalizer of somebody else's holds it: no more decisions for it.
            self.forget_service(key.namespace, key.name)
            return
        known = self.services.get(key)
        if known is not None and known.uid != metadata["uid"]:
            self._served_by.pop(key, None)
            known = None
        generation = int(metadata.get("generation", 0))
        if known is not None and known.spec is not None and known.generation == generation:
            # Only the status moved, mostly by our own hand: keep the parsed spec.
            self._keep(body, known.spec, None)
            return
        spec, invalid = None, None
        try:
            spec = parse_service(body)
            if (revision := self._served_by.get(key)) is not None:
                spec = served_by(spec, revision)
        except InvalidSpec as error:
            invalid = error
        except Exception as error:
            cause = f"a defect of Penstock met it: {type(error).__name__}: {str(error)[:200]}"
            invalid = InvalidSpec("spec", cause, "report it with the operator's log")
            raise
        finally:
            known = self._keep(body, spec, invalid)
            if spec is None:
                self._claims.drop(key)
            else:
                self._claims.put(spec, known.created)

    def _keep(self, body: Object, spec: ServiceSpec | None, invalid: InvalidSpec | None) -> KnownService:
        metadata = body["metadata"]
        known = KnownService(
            # One object: who looks up by either compares nothing.
            key=ServiceKey(metadata["namespace"], metadata["name"]) if spec is None else spec.key,
            uid=metadata["uid"],
            generation=int(metadata.get("generation", 0)),
            spec=spec,
            invalid=invalid,
            status_json=_packed(body.get("status")),
            canary_command=str((metadata.get("annotations") or {}).get(CANARY_ANNOTATION) or ""),
            created=str(metadata.get("creationTimestamp") or ""),
        )
        self.services[known.key] = known
        return known

    def forget_service(self, namespace: str, name: str) -> None:
        """Drop a deleted InferenceService."""
        key = ServiceKey(namespace, name)
        self.services.pop(key, None)
        self._served_by.pop(key, None)
        self._claims.drop(key)

    def serve_by(self, key: ServiceKey, revision: str) -> None:
        """Let an owned workload be that revision for all who ask: its spec has a target and a Service then.

        Until the service is gone or another revision is named; also for later specs.
        """
        known = self.services.get(key)
        if known is None or self._served_by.get(key) == revision:
            return
        self._served_by[key] = revision
        if known.spec is not None:
            spec = served_by(known.spec, revision)
            self.services[key] = replace(known, spec=spec)
            self._claims.put(spec, known.created)

    def see_workload(self, kind: str, body: Object) -> None:
        """Take in a Deployment or StatefulSet."""
        metadata = body["metadata"]
        self.workloads[metadata["namespace"], kind, metadata["name"]] = read_workload(body)
        if kind == "Deployment":
            self.revisions.see(body)

    def workload(self, namespace: str, target: TargetRef) -> Workload | None:
        """Return a target as it was seen last; None where it is not there."""
        if target.group == "apps":  # without another call: it is asked three times a service and tick
            return self.workloads.get((namespace, target.kind, target.name))
        return self.workloads.get(workload_key(namespace, target))

    def forget_workload(self, kind: str, namespace: str, name: str) -> None:
        """Drop a deleted workload."""
        self.workloads.pop((namespace, kind, name), None)
        if kind == "Deployment":
            self.revisions.forget(namespace, name)

    def see_autoscaler(self, kind: str, body: Object) -> None:
        """Take in a HorizontalPodAutoscaler or a KEDA ScaledObject; a paused one holds nothing."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        self.forget_autoscaler(kind, metadata["namespace"], metadata["name"])
        annotations = metadata.get("annotations") or {}
        paused = annotations.get("autoscaling.keda.sh/paused", "false") == "true"
        if kind == "ScaledObject" and (paused or "autoscaling.keda.sh/paused-replicas" in annotations):
            return
        target = spec.get("scaleTargetRef") or {}
        holds = (metadata["namespace"], target.get("kind") or "Deployment", str(target.get("name", "")))
        self.autoscalers.setdefault(holds, set()).add(f"{kind}/{metadata['name']}")
        self._scaled_by[metadata["namespace"], f"{kind}/{metadata['name']}"] = holds

    def forget_autoscaler(self, kind: str, namespace: str, name: str) -> None:
        """Drop a deleted autoscaler."""
        held = self._scaled_by.pop((namespace, f"{kind}/{name}"), None)
        if held is not None:
            self.autoscalers[held].discard(f"{kind}/{name}")
            if not self.autoscalers[held]:
                del self.autoscalers[held]

    def see_cluster_service(self, body: Object) -> None:
        """Take in a Service: its selector finds the default serviceRef."""
        metadata = body["metadata"]
        if is_ours(body):
            # It leads to a gateway, selects the target's pods since the gateway is gone, or those of an arm.
            if ARM_LABEL in (metadata.get("labels") or {}):
                self.own_services.add((metadata["namespace"], metadata["name"]))
            return
        selector = (body.get("spec") or {}).get("selector") or {}
        self._selectors.put(metadata["namespace"], metadata["name"], dict(selector))

    def forget_cluster_service(self, namespace: str, name: str) -> None:
        """Drop a deleted Service."""
        self._selectors.drop(namespace, name)
        self.own_services.discard((namespace, name))

    def see_slice(self, body: Object) -> None:
        """Take in an EndpointSlice: the pods behind a Service, of which a Service may have several."""
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self.forget_slice(namespace, name)
        service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        self._service_of[namespace, name] = service
        self._slices.setdefault((namespace, service), {})[name] = frozenset(
            str(ref["name"])
            for endpoint in body.get("endpoints") or ()
            if (ref := endpoint.get("targetRef") or {}).get("kind") == "Pod"
        )

    def forget_slice(self, namespace: str, name: str) -> None:
        """Drop a deleted EndpointSlice."""
        service = self._service_of.pop((namespace, name), None)
        if service is not None:
            self._slices[namespace, service].pop(name, None)
            if not self._slices[namespace, service]:
                del self._slices[namespace, service]

    def pods_behind(self, namespace: str, service: str) -> frozenset[str]:
        """Return the names of the pods behind a Service, ready or not."""
        slices = self._slices.get((namespace, service))
        if slices is None:
            return NO_PODS
        # Mostly there is one slice: then the very same set is returned until it moves.
        first, *others = slices.values()
        return first.union(*others) if others else first

    def conflict(self, key: ServiceKey, target: TargetRef) -> str:
        """Return who else scales a target of a service, ``Kind/name``; empty where nobody does.

        An autoscaler, or the InferenceService that enforces on it and comes before this one.
        """
        workload = (key.namespace, target.kind, target.name)
        holders = self.autoscalers.get(workload)
        if holders:
            # KEDA works through an HPA of its own: name the object that the user knows.
            return min(holders, key=lambda each: (not each.startswith("ScaledObject"), each))
        if target.group != "apps":  # without another call, as in `workload`
            workload = workload_key(key.namespace, target)
        first = self._claims.first.get(workload)
        return "" if first is None or first == key else f"{SERVICE_KIND}/{first.name}"

    def services_in_front(self, spec: ServiceSpec) -> list[str]:
        """Return the Services that may serve for a spec: the named one, else those selecting its pods."""
        if spec.service is not None:
            return [spec.service.name]
        workload = self.workload(spec.key.namespace, spec.target)
        if workload is None:
            return []
        return self.services_selecting(spec.key.namespace, workload.pod_labels)

    def services_selecting(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Return the Services of the namespace whose selector matches pods with `labels`."""
        return self._selectors.selecting(namespace, labels)


def is_watched(target: TargetRef) -> bool:
    """Whether the kind of a target is one that is watched."""
    return target.group == "apps" and target.kind in ("Deployment", "StatefulSet")


def _packed(status: Object | None) -> bytes:
    """Return a status as text, copied: orjson's own holds on to a buffer of 8 KB for 2 KB of it."""
    return bytes(memoryview(orjson.dumps(status))) if status else NO_STATUS
