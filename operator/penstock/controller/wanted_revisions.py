"""What of an owned workload is to be in the cluster: from a canary's plan to Deployments. Pure.

plan             stable arm           canary's Deployment          earlier revisions
nothing under way   the stable one    none                         scaled in when idle
under way           the stable one    of the plan's revision       scaled in when idle
promote             the plan's        none: it is the stable one   the old one serves on until it is idle
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from penstock.controller.found_revisions import FoundRevision, surplus
from penstock.controller.revision_objects import Arm
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.revision import WorkloadTemplate
from penstock.model.spec import ServiceSpec

# Nodes follow a Service within 1 to 5 s; requests that clients had on their way go to the old pods.
SWITCH_SECONDS = 15.0
_NONE_UNDER_WAY = (CanaryPhase.IDLE, CanaryPhase.PROMOTED, CanaryPhase.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Revision:
    """One pod template of a service, by its revision.

    `replicas` are those its Deployment is created with; afterwards they move through /scale only.
    `template` None: as its Deployment has it, which is remembered in case that is deleted by hand.
    """

    revision: str
    replicas: int
    template: WorkloadTemplate | None = None


@dataclass(frozen=True, slots=True)
class WantedRevisions:
    """What of an owned workload is to be in the cluster; `spec` is that of the InferenceService.

    `idle` are earlier revisions that need not serve any longer: they are scaled to zero. Those that are
    neither wanted nor idle are left as they are: they may have streams.
    """

    spec: ServiceSpec
    stable: Revision
    canary: Revision | None = None
    idle: frozenset[str] = frozenset()

    @property
    def in_use(self) -> frozenset[str]:
        """Return the revisions that are wanted."""
        return frozenset({self.stable.revision, *((self.canary.revision,) if self.canary else ())})


class Step(Enum):
    """What is done with an earlier revision."""

    LABEL = auto()  # as one that is no arm any more
    SCALE_IN = auto()
    DELETE = auto()


def wanted_revisions(
    spec: ServiceSpec,
    template: WorkloadTemplate,
    plan: CanaryPlan | None,
    *,
    stable: str,
    found: Sequence[FoundRevision],
    target: int | None,
    switched_at: float,
    busy: Collection[str] = (),
    now: float,
) -> WantedRevisions:
    """Return what is to be in the cluster.

    `template` is the spec's, `stable` the revision that serves ("": none yet), `target` the replicas
    in force (None: not known, then the minimum). `switched_at` says when the stable revision last
    changed, or since when this process looks; `busy` are revisions known to have requests in flight.
    Times in Unix seconds.
    """
    serves = (plan.promote if plan is not None else "") or stable or template.revision
    replicas = target or spec.replicas.min  # a target at zero has no count to come back to
    canary = None
    if plan is not None and plan.phase not in _NONE_UNDER_WAY and plan.revision not in ("", serves):
        canary = _revision(plan.revision, plan.canary_replicas or 0, template)
    in_use = {serves, *((canary.revision,) if canary is not None else ())}
    idle: frozenset[str] = frozenset()
    if serves == stable and now - switched_at >= SWITCH_SECONDS:
        idle = frozenset(each.revision for each in found) - in_use - frozenset(busy)
    return WantedRevisions(spec, _revision(serves, replicas, template), canary, idle)


def steps_back(found: Sequence[FoundRevision], wanted: WantedRevisions) -> list[tuple[Step, FoundRevision]]:
    """Return what is to be done with earlier revisions, one step each."""
    earlier = [each for each in found if each.owner_uid in ("", wanted.spec.uid)]
    expired = surplus(earlier, wanted.in_use)
    steps = []
    for each in earlier:
        if each.revision in wanted.in_use:
            continue
        if each in expired:
            steps.append((Step.DELETE, each))
        elif each.replicas and each.revision in wanted.idle:
            steps.append((Step.SCALE_IN, each))
        elif each.arm != Arm.RETIRED:
            steps.append((Step.LABEL, each))
    return steps


def _revision(revision: str, replicas: int, template: WorkloadTemplate) -> Revision:
    return Revision(revision, replicas, template if revision == template.revision else None)
