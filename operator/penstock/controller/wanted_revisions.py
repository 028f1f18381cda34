"""From a canary's plan to the objects of an owned workload. Pure.

plan             stable arm           canary's Deployment          earlier revisions
nothing under way   the stable one    none                         scaled in when idle
under way           the stable one    of the plan's revision       scaled in when idle
promote             the plan's        none: it is the stable one   the old one serves on until it is idle
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from penstock.controller.found_revisions import FoundRevision
from penstock.controller.revisions import Revision, WantedRevisions
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.revision import WorkloadTemplate
from penstock.model.spec import ServiceSpec

# Nodes follow a Service within 1 to 5 s; requests that clients had on their way go to the old pods.
SWITCH_SECONDS = 15.0
_NONE_UNDER_WAY = (CanaryPhase.IDLE, CanaryPhase.PROMOTED, CanaryPhase.ROLLED_BACK)


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


def _revision(revision: str, replicas: int, template: WorkloadTemplate) -> Revision:
    return Revision(revision, replicas, template if revision == template.revision else None)
