"""Which revisions of owned workloads are in the cluster, as the watch of Deployments shows them.

The arm is a label of the Deployment, not of its pods (their template must not change). It is what a
restarted operator goes by when the status was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.controller.revision_objects import ARM_LABEL, REVISION_LABEL, Arm, controller_of
from penstock.dataplane.envoy.gateway_services import SERVICE_LABEL
from penstock.dataplane.envoy.manifests import is_ours
from penstock.model.spec import ServiceKey

# Two to go back to when the newest was no good, and one more; a Deployment at zero costs 10 KB of etcd.
HISTORY_LIMIT = 3


@dataclass(frozen=True, slots=True)
class FoundRevision:
    """A Deployment of ours; `created` as the API writes times, which sort; `owner_uid` "" when orphaned."""

    name: str  # of the Deployment
    revision: str
    arm: str
    owner_uid: str
    created: str
    replicas: int  # wanted
    current: int  # there are pods of it

    @property
    def empty(self) -> bool:
        """Whether it has no pods and wants none."""
        return self.replicas == 0 == self.current


def read_revision(body: Mapping[str, Any]) -> tuple[ServiceKey, FoundRevision] | None:
    """Return the service and revision of a Deployment; None for one that is not ours."""
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    service, revision = labels.get(SERVICE_LABEL), labels.get(REVISION_LABEL)
    if not service or not revision or not is_ours(body) or "deletionTimestamp" in metadata:
        return None
    wanted = (body.get("spec") or {}).get("replicas")
    return ServiceKey(metadata["namespace"], service), FoundRevision(
        name=metadata["name"],
        revision=revision,
        arm=labels.get(ARM_LABEL, ""),
        owner_uid=str((controller_of(body) or {}).get("uid", "")),
        created=str(metadata.get("creationTimestamp") or ""),
        replicas=1 if wanted is None else int(wanted),
        current=int((body.get("status") or {}).get("replicas") or 0),
    )


@dataclass(slots=True)
class RevisionIndex:
    """The revisions of all services."""

    _by_service: dict[ServiceKey, dict[str, FoundRevision]] = field(default_factory=dict)
    _service_of: dict[tuple[str, str], ServiceKey] = field(default_factory=dict)

    def see(self, body: Mapping[str, Any]) -> None:
        """Take in a Deployment, ours or not."""
        metadata = body["metadata"]
        self.forget(metadata["namespace"], metadata["name"])
        found = read_revision(body)
        if found is not None:
            key, revision = found
            self._by_service.setdefault(key, {})[revision.name] = revision
            self._service_of[metadata["namespace"], metadata["name"]] = key

    def forget(self, namespace: str, name: str) -> None:
        """Drop a deleted Deployment."""
        key = self._service_of.pop((namespace, name), None)
        if key is not None:
            del self._by_service[key][name]
            if not self._by_service[key]:
                del self._by_service[key]

    def of(self, key: ServiceKey) -> tuple[FoundRevision, ...]:
        """Return the revisions of a service, the oldest first."""
        found = self._by_service.get(key, _NONE).values()
        return tuple(sorted(found, key=lambda each: (each.created, each.name)))


_NONE: Mapping[str, FoundRevision] = {}


def stable_revision(
    current: str, remembered: str, found: Sequence[FoundRevision], *, kept: Collection[str] = ()
) -> str:
    """Return the revision that is the stable arm: the status's, else the one labelled so, else "".

    A revision counts while its Deployment is in the cluster, or while its template is at hand: that of
    `current`, the spec's, and of those in `kept`. `remembered` is "" where the status was lost; the
    answer is "" where nothing serves yet, or nothing that could be had back.
    """
    if remembered and (remembered == current or remembered in kept or _is_among(found, remembered)):
        return remembered
    # Between the two writes of a promotion both bear the label: the new one is the spec's, or the newest.
    labelled = [each.revision for each in found if each.arm == Arm.STABLE]
    if current in labelled:
        return current
    return labelled[-1] if labelled else ""


def surplus(
    found: Sequence[FoundRevision], in_use: Collection[str], *, limit: int = HISTORY_LIMIT
) -> tuple[FoundRevision, ...]:
    """Return the empty revisions beyond the newest `limit`, which may be deleted; `in_use` never are."""
    retired = [each for each in found if each.revision not in in_use and each.empty]
    return tuple(retired[:-limit]) if limit else tuple(retired)


def _is_among(found: Sequence[FoundRevision], revision: str) -> bool:
    return any(each.revision == revision for each in found)
