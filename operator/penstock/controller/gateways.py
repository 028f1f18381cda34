"""What gateways need in the cluster: the pods of each group, and a Service for each service they serve.

Ports live in the Services that point to them, so a restarted operator finds them again. A service that is
gone keeps its name: its Service then selects the target's pods, or with TLS stays as it is. A group without
services is removed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from penstock.controller.gateway_placement import GatewayPlacement
from penstock.controller.gateway_recovery import read_back
from penstock.controller.handed_back import hand_back
from penstock.controller.kept_services import KeptServices
from penstock.controller.left_gateways import LeftGateways, removed_objects
from penstock.controller.owned_objects import RETRY_SECONDS, ObjectApi, OwnedObjects, Problem
from penstock.dataplane.envoy.gateway_services import FoundService, gateway_services, read_service
from penstock.dataplane.envoy.manifests import GatewayGroupPlan, group_objects, unwanted_objects
from penstock.dataplane.envoy.ports import allocate_ports
from penstock.dataplane.envoy.stored import StoredPlansError, store_plans
from penstock.dataplane.envoy.tokens import group_token
from penstock.kube.api import KubeError
from penstock.kube.event_outbox import PendingEvent
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, backends_of

__all__ = ["GatewayObjects", "GatewayPlacement"]
log = structlog.get_logger(__name__)
# A limit per replica moves with every calibration; kubelets take a minute to carry a ConfigMap anyway.
LOOK_EVERY_SECONDS = 60.0


@dataclass(slots=True)
class _Group:
    ports: dict[ServiceKey, int] = field(default_factory=dict)
    found: dict[ServiceKey, FoundService] = field(default_factory=dict)
    plans: str = ""  # as they are stored
    unstored: Problem | None = None  # why the latest are not
    read_namespaces: frozenset[str] = frozenset()  # whose EndpointSlices its agents may read
    pruned: bool = False  # nothing is left that the template does not want
    structure: tuple[object, ...] = ()  # of the plans that were applied
    applied_at: float = 0.0
    removed: bool = False  # nothing is left in the cluster but Services that bypass it
    problems: dict[ServiceKey, Problem] = field(default_factory=dict)

    def led_elsewhere(self, group: str, key: ServiceKey) -> bool:
        """Whether a service's Service is there and leads to its pods, or to gateways of another scope."""
        found = self.found.get(key)
        return found is not None and (found.direct or found.group != group)

    def ending_tls(self, group: str) -> list[FoundService]:
        """Return the Services by which clients reach these gateways with TLS."""
        return [each for each in self.found.values() if each.tls and not each.direct and each.group == group]

    def forget(self, key: ServiceKey) -> None:
        """Give up the Service and the port of a service."""
        self.found.pop(key, None)
        self.ports.pop(key, None)

    @property
    def hindered(self) -> bool:
        """Whether something is to be tried again soon; plans that do not fit will not fit in a second."""
        return any(problem != self.unstored for problem in self.problems.values())


class GatewayObjects:
    """Creates and keeps up what gateways need; `tell` takes Events."""

    def __init__(
        self,
        kube: ObjectApi,
        placement: GatewayPlacement,
        tell: Callable[[PendingEvent], None] | None = None,
    ) -> None:
        self._kube, self._placement = kube, placement
        self._kept = KeptServices(kube, tell)
        self._objects = OwnedObjects(kube)
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self._left = LeftGateways(kube, self._objects, lambda each: self._home(self.group_of(each.key)))
        self._stored: dict[str, tuple[RoutePlan, ...]] = {}
        self._recovered = False
        self._round: asyncio.Task[None] | None = None

    def follow(
        self,
        routes: Mapping[str, Sequence[RoutePlan]],
        existing: Collection[ServiceKey],
        *,
        reached: Collection[ServiceKey],
        now: float,
    ) -> Mapping[ServiceKey, Problem]:
        """Start bringing all groups to what `routes` ask for; returns what hindered the round before.

        Never waits: one round runs at a time, and a slow API server delays rounds, not limits. Arguments
        as for `ensure`; a group that has existing services but no routes is left as it is.
        """
        if self._round is None or self._round.done():
            wanted = {group: tuple(plans) for group, plans in routes.items()}
            round_ = self._all(wanted, frozenset(existing), frozenset(reached), now)
            self._round = asyncio.create_task(round_, name="gateway objects")
        return {key: problem for state in self._groups.values() for key, problem in state.problems.items()}

    async def settled(self) -> None:
        """Wait for the round that is under way."""
        if self._round is not None:
            await asyncio.wait([self._round])

    async def close(self) -> None:
        """End a round that is under way."""
        if self._round is not None:
            self._round.cancel()
            await asyncio.gather(self._round, return_exceptions=True)

    async def _all(
        self,
        routes: Mapping[str, Sequence[RoutePlan]],
        existing: frozenset[ServiceKey],
        reached: frozenset[ServiceKey],
        now: float,
    ) -> None:
        if not self._recovered:
            try:
                await self.recover()
            except KubeError as error:
                log.warning("gateways' Services cannot be listed", error=error.message)
                await asyncio.sleep(RETRY_SECONDS)
                return
        theirs: dict[str, list[ServiceKey]] = defaultdict(list)
        for key in existing:
            theirs[self._placement.group_of(key)].append(key)
        for group in sorted({*self._groups, *routes}):
            plans = routes.get(group, ())
            try:
                await self.ensure(group, plans, existing=theirs[group], reached=reached, now=now)
            except Exception:
                # A defect with one group must not keep the others from being served.
                log.exception("gateways not kept up", group=group)
        try:
            services = [each for state in self._groups.values() for each in state.found.values()]
            await self._left.remove_unused(services, now)
        except Exception:
            log.exception("gateways of another scope not removed")

    async def recover(self) -> None:
        """Read back ports, groups and what they were told last, once, before any port is given.

        Raises `KubeError`.
        """
        recovered = await read_back(self._kube, self._placement)
        for name, found in recovered.groups.items():
            namespaces = frozenset(key.namespace for key in {*found.ports, *found.services})
            self._groups[name] = _Group(found.ports, found.services, read_namespaces=namespaces)
            self._stored[name] = found.plans
        self._left.add(
            replace(
                self._group_plan(each.name, ()), namespace=each.home, served_namespaces=each.served_namespaces
            )
            for each in recovered.left
        )
        self._recovered = True

    def stored(self) -> Mapping[str, Sequence[RoutePlan]] | None:
        """Return what each group was told before this operator started; None until `recover` has been."""
        return self._stored if self._recovered else None

    def tls_services(self) -> Collection[ServiceKey]:
        """Return the services whose clients' TLS these gateways end."""
        return {each.key for name, state in self._groups.items() for each in state.ending_tls(name)}

    def groups(self) -> tuple[str, ...]:
        """Return the groups that have, or had, anything in the cluster."""
        return tuple(group for group, state in self._groups.items() if not state.removed)

    def group_of(self, key: ServiceKey) -> str:
        """Return the gateways that serve a service."""
        return self._placement.group_of(key)

    def listen_port(self, group: str, key: ServiceKey) -> int | None:
        """Return the gateways' port of a service; None until `recover` has been. Raises `NoPortError`."""
        if not self._recovered:
            return None
        ports = self._groups[group].ports
        if key not in ports:
            ports[key] = allocate_ports(ports, [key])[key]
        return ports[key]

    async def ensure(
        self,
        group: str,
        plans: Sequence[RoutePlan],
        *,
        existing: Collection[ServiceKey],
        reached: Collection[ServiceKey] = (),
        now: float,
    ) -> Mapping[ServiceKey, Problem]:
        """Bring one group's objects to what `plans` ask for; returns what hinders which service.

        `existing` are all services that exist, with or without a plan: others are handed back to their
        pods, but for those with TLS, whose plans go on. A Service that bypasses the gateways is led to them
        once its route is in them all (`reached`). `now` is Unix seconds.
        """
        if not self._recovered:
            return {}
        state, existing = self._groups[group], frozenset(existing)
        await self._let_go(state, existing, now)
        structure = _structure(plans)
        kept = {plan.key for plan in plans} | existing
        gone = [each for key, each in state.found.items() if key not in kept and not each.direct]
        pending = [each for each in gone if not each.tls]
        kept |= {each.key for each in state.ending_tls(group)}
        returning = any(state.led_elsewhere(group, plan.key) for plan in plans)
        changed = structure != state.structure or pending or returning
        if not (changed or state.hindered or now - state.applied_at >= LOOK_EVERY_SECONDS):
            return state.problems
        problems: dict[ServiceKey, Problem] = {}
        for found in pending:
            if (problem := await self._hand_back(found, now)) is not None:
                problems[found.key] = problem
        if plans:
            if structure != state.structure or now - state.applied_at >= LOOK_EVERY_SECONDS:
                state.structure, state.applied_at = structure, now
                self._store(group, plans)
            hindrance = await self._apply_group(group, plans, now)
            for plan in plans:
                problem = hindrance
                if problem is None and plan.key in existing:  # another's is its owner's to delete
                    problem = await self._apply_service(group, plan, reached, now)
                problem = problem or state.unstored
                if problem is not None:
                    problems[plan.key] = problem
        elif not (kept or problems or state.removed):
            await self._remove(group, now)
        state.problems = problems
        return problems

    def _home(self, group: str) -> str:
        return self._placement.home_of(group)

    def _store(self, group: str, plans: Sequence[RoutePlan]) -> None:
        """Take over what the group's agents are to know from now on, if it can be stored."""
        state = self._groups[group]
        try:
            state.plans, state.unstored = store_plans(plans), None
        except StoredPlansError as error:
            # Gateways that live go on; only one born while the operator is down lacks the latest.
            if state.unstored is None:
                log.warning("plans not stored", group=group, error=str(error))
            state.unstored = ("PlansNotStored", str(error))

    def _group_plan(self, group: str, plans: Sequence[RoutePlan]) -> GatewayGroupPlan:
        place, home = self._placement, self._home(group)
        state = self._groups.get(group)
        # Pods mount the Secrets of their own namespace only.
        secrets = {plan.tls_secret for plan in plans if plan.tls_secret and plan.key.namespace == home}
        backends = [backend for plan in plans for backend in backends_of(plan)]
        return GatewayGroupPlan(
            name=group,
            namespace=home,
            token=group_token(place.key, group),
            xds_host=place.xds_host,
            xds_port=place.xds_port,
            template=place.template,
            plans=state.plans if state is not None else "",
            tls_secrets=tuple(sorted(secrets)),
            served_namespaces=tuple(sorted({each.namespace for each in backends})),
        )

    async def _apply_group(self, group: str, plans: Sequence[RoutePlan], now: float) -> Problem | None:
        state, wanted = self._groups[group], self._group_plan(group, plans)
        state.removed = False
        for body in group_objects(wanted):
            if (problem := await self._objects.apply(body, now)) is not None:
                return problem
        needed = frozenset(wanted.served_namespaces)
        left = state.read_namespaces - needed - {wanted.namespace}
        if left or not state.pruned:
            hindered = [await self._objects.remove(body) for body in unwanted_objects(wanted, left)]
            state.pruned = not any(hindered)
            for reason, message in filter(None, hindered):
                log.warning("not removed", group=group, reason=reason, message=message)
        # What could not be removed is tried again when the group is looked at next.
        state.read_namespaces = needed | (frozenset() if state.pruned else left)
        return None

    async def _apply_service(
        self, group: str, plan: RoutePlan, reached: Collection[ServiceKey], now: float
    ) -> Problem | None:
        home = self._home(group)
        if plan.tls_secret and plan.key.namespace != home:
            return (
                "TLSNotPossible",
                f"Secret {plan.key.namespace}/{plan.tls_secret} cannot be mounted by gateways in {home}: "
                "install the chart with gateway.scope=namespace, or let an Ingress end TLS",
            )
        state = self._groups[group]
        if state.led_elsewhere(group, plan.key) and plan.key not in reached:
            return None
        domain = self._placement.template.cluster_domain
        for body in gateway_services(plan, group=group, namespace=home, cluster_domain=domain):
            if (problem := await self._objects.apply(body, now)) is not None:
                return problem
            if (found := read_service(body)) is not None:
                state.found[plan.key] = found
        return None

    async def _let_go(self, state: _Group, existing: Collection[ServiceKey], now: float) -> None:
        """Forget the Services with TLS of services that are gone, once nobody can come by them."""
        for found in [each for each in state.found.values() if each.tls and not each.direct]:
            if found.key in existing:
                self._kept.forget(found.key)
            elif await self._kept.is_over(found, now):
                state.forget(found.key)

    async def _hand_back(self, found: FoundService, now: float) -> Problem | None:
        """Let the Service of a service that is gone lead to its pods."""
        group = self.group_of(found.key)  # not found.group: another scope's is none of ours
        state = self._groups[group]
        handed, problem = await hand_back(self._kube, self._objects, found, home=self._home(group), now=now)
        if handed is not None:
            # Its port stays taken: the gateways keep its listener for a while.
            state.found[found.key] = handed
        elif problem is None:
            state.forget(found.key)
        return problem

    async def _remove(self, group: str, now: float) -> None:
        """Delete a group's pods and what they needed; Services stay."""
        state = self._groups[group]
        state.structure, state.applied_at = (), now
        wanted = replace(self._group_plan(group, ()), served_namespaces=tuple(state.read_namespaces))
        for body in removed_objects(wanted):
            if (problem := await self._objects.remove(body)) is not None:
                log.warning("gateways not removed", group=group, reason=problem[0], message=problem[1])
                return
        state.removed, state.read_namespaces, state.applied_at = True, frozenset(), 0.0


def _structure(plans: Sequence[RoutePlan]) -> tuple[object, ...]:
    """Return what objects in the cluster depend on: all of a plan but its limits.

    The canary's weight with it: stored a minute late, a rolled-back canary would come back with the agents.
    """
    return tuple(
        (
            plan.key,
            plan.backend,
            plan.listen_port,
            plan.tls_secret,
            None if plan.fallback is None else plan.fallback.backend,
            plan.canary and replace(plan.canary, in_flight_limit=None),
        )
        for plan in sorted(plans, key=lambda plan: str(plan.key))
    )
