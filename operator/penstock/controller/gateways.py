"""What gateways need in the cluster: the pods of each group, and a Service for each service they serve.

Ports live in the Services that point to them, so a restarted operator finds them again. A service that is
gone keeps its name: its Service then selects the target's pods. A group without services is removed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from penstock.controller.owned_objects import (
    RESOURCES,
    RETRY_SECONDS,
    ObjectApi,
    OwnedObjects,
    Problem,
)
from penstock.dataplane.envoy.gateway_pod import PLANS, PLANS_FILE
from penstock.dataplane.envoy.gateway_services import (
    FoundService,
    direct_service,
    gateway_services,
    read_service,
    service_beside_pods,
    service_name,
)
from penstock.dataplane.envoy.manifests import GROUP_LABEL, MANAGED_BY, GatewayGroupPlan, group_objects
from penstock.dataplane.envoy.ports import allocate_ports, repaired_ports
from penstock.dataplane.envoy.stored import StoredPlansError, read_plans, store_plans
from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.dataplane.envoy.tokens import group_token
from penstock.kube.api import KubeError, NotFound
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, backends_of

log = structlog.get_logger(__name__)
CLUSTER_GROUP = "penstock"
# A limit per replica moves with every calibration; kubelets take a minute to carry a ConfigMap anyway.
LOOK_EVERY_SECONDS = 60.0
SELECTOR = ",".join((*(f"{name}={value}" for name, value in MANAGED_BY.items()), GROUP_LABEL))


@dataclass(frozen=True, slots=True)
class GatewayPlacement:
    """Where gateways are put and whom they ask.

    `namespace` "": each group lives in the namespace it is named after; else all pods live there.
    `watched` are the namespaces that may be listed; empty: all.
    """

    key: bytes
    xds_host: str
    xds_port: int
    template: GatewayTemplate
    namespace: str = ""
    watched: tuple[str, ...] = ()

    def group_of(self, key: ServiceKey) -> str:
        """Return the gateways that serve a service."""
        return CLUSTER_GROUP if self.namespace else key.namespace


@dataclass(slots=True)
class _Group:
    ports: dict[ServiceKey, int] = field(default_factory=dict)
    found: dict[ServiceKey, FoundService] = field(default_factory=dict)
    plans: str = ""  # as they are stored
    structure: tuple[object, ...] = ()  # of the plans that were applied
    applied_at: float = 0.0
    removed: bool = False  # nothing is left in the cluster but Services that bypass it
    problems: dict[ServiceKey, Problem] = field(default_factory=dict)

    def bypassing(self, keys: Collection[ServiceKey]) -> bool:
        """Whether a Service among `keys` does not lead to the gateways."""
        return any(self.found[key].direct for key in keys if key in self.found)


class GatewayObjects:
    """Creates and keeps up what gateways need."""

    def __init__(self, kube: ObjectApi, placement: GatewayPlacement) -> None:
        self._kube, self._placement = kube, placement
        self._objects = OwnedObjects(kube)
        self._groups: dict[str, _Group] = defaultdict(_Group)
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

    async def recover(self) -> None:
        """Read back ports, groups and what they were told last, once, before any port is given.

        Raises `KubeError`.
        """
        for namespace in self._placement.watched or ("",):
            for body in await self._kube.list(RESOURCES["Service"], namespace, label_selector=SELECTOR):
                found = read_service(body)
                if found is None:
                    continue
                group = self._groups[found.group]
                group.found[found.key] = found
                if found.listen_port is not None:
                    group.ports[found.key] = found.listen_port
        homes = (
            (self._placement.namespace,) if self._placement.namespace else self._placement.watched or ("",)
        )
        for namespace in homes:
            for body in await self._kube.list(RESOURCES["Deployment"], namespace, label_selector=SELECTOR):
                self._groups.setdefault(body["metadata"]["labels"][GROUP_LABEL], _Group())
        for name, group in self._groups.items():
            stored = await self._read_stored(name)
            for plan in stored:  # its Service may have been deleted; its listener is still there
                group.ports.setdefault(plan.key, plan.listen_port)
            ports = repaired_ports(group.ports)
            if changed := sorted(str(key) for key, port in group.ports.items() if ports.get(key) != port):
                log.warning("Services name ports that they cannot have", group=name, services=changed)
            group.ports = ports
            self._stored[name] = tuple(plan for plan in stored if ports.get(plan.key) == plan.listen_port)
        self._recovered = True

    async def _read_stored(self, group: str) -> tuple[RoutePlan, ...]:
        try:
            body = await self._kube.get(RESOURCES["ConfigMap"], self._home(group), PLANS)
            return read_plans(str((body.get("data") or {}).get(PLANS_FILE, "")))
        except NotFound:
            return ()
        except StoredPlansError as error:
            log.warning("what gateways were told before cannot be read", group=group, error=str(error))
            return ()

    def stored(self) -> Mapping[str, Sequence[RoutePlan]] | None:
        """Return what each group was told before this operator started; None until `recover` has been."""
        return self._stored if self._recovered else None

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
        pods. A Service that bypasses the gateways is led to them once its route is in them all
        (`reached`). `now` is Unix seconds.
        """
        if not self._recovered:
            return {}
        state = self._groups[group]
        structure = _structure(plans)
        kept = {plan.key for plan in plans} | set(existing)
        pending = [each for key, each in state.found.items() if key not in kept and not each.direct]
        changed = structure != state.structure or pending or state.bypassing([plan.key for plan in plans])
        if not (changed or state.problems or now - state.applied_at >= LOOK_EVERY_SECONDS):
            return {}
        problems: dict[ServiceKey, Problem] = {}
        for found in pending:
            if (problem := await self._hand_back(found, now)) is not None:
                problems[found.key] = problem
        if plans:
            if structure != state.structure or now - state.applied_at >= LOOK_EVERY_SECONDS:
                state.structure, state.applied_at = structure, now
                try:
                    state.plans = store_plans(plans)
                except StoredPlansError as error:
                    # Gateways that live go on; only one born while the operator is down lacks the latest.
                    problems |= {plan.key: ("PlansNotStored", str(error)) for plan in plans}
            hindrance = await self._apply_group(group, plans, now)
            for plan in plans:
                if (problem := hindrance or await self._apply_service(group, plan, reached, now)) is not None:
                    problems[plan.key] = problem
        elif not (kept or problems or state.removed):
            await self._remove(group)
        state.problems = problems
        return problems

    def _home(self, group: str) -> str:
        return self._placement.namespace or group

    def _group_plan(self, group: str, plans: Sequence[RoutePlan]) -> GatewayGroupPlan:
        place, home = self._placement, self._home(group)
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
            plans=self._groups[group].plans,
            tls_secrets=tuple(sorted(secrets)),
            served_namespaces=tuple(sorted({each.namespace for each in backends})),
        )

    async def _apply_group(self, group: str, plans: Sequence[RoutePlan], now: float) -> Problem | None:
        self._groups[group].removed = False
        for body in group_objects(self._group_plan(group, plans)):
            if (problem := await self._objects.apply(body, now)) is not None:
                return problem
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
        known = state.found.get(plan.key)
        if known is not None and known.direct and plan.key not in reached:
            return None
        domain = self._placement.template.cluster_domain
        for body in gateway_services(plan, group=group, namespace=home, cluster_domain=domain):
            if (problem := await self._objects.apply(body, now)) is not None:
                return problem
            if (found := read_service(body)) is not None:
                state.found[plan.key] = found
        return None

    async def _hand_back(self, found: FoundService, now: float) -> Problem | None:
        """Let the Service of a service that is gone select what the target's own Service selects."""
        state = self._groups[found.group]
        services, namespace = RESOURCES["Service"], found.key.namespace
        try:
            ours = await self._kube.get(services, namespace, service_name(found.key))
            behind = await self._kube.get(services, namespace, found.backend) if found.backend else {}
        except NotFound:
            # Deleted by its owner, or nothing is left to serve.
            state.found.pop(found.key, None)
            state.ports.pop(found.key, None)
            return None
        except KubeError as error:
            return ("GatewayNotWritten", f"Service {namespace}/{service_name(found.key)}: {error.message}")
        body = direct_service(found, behind, list(ours["spec"].get("ports") or ()))
        if body is None:
            return (
                "ServiceNotHandedBack",
                f"Service {namespace}/{service_name(found.key)} leads nowhere: {found.backend}, the Service "
                "behind it, has no selector or no such port any more",
            )
        if (problem := await self._objects.apply(body, now)) is not None:
            return problem
        if self._home(found.group) != namespace:
            await self._objects.remove(service_beside_pods(found.key, self._home(found.group)))
        log.info("service handed back to its pods", service=str(found.key))
        handed = read_service(body)
        assert handed is not None  # noqa: S101 - it was built from what was read
        # Its port stays taken: the gateways keep its listener for a while.
        state.found[found.key] = handed
        return None

    async def _remove(self, group: str) -> None:
        """Delete a group's pods and what they needed, last applied first; Services stay."""
        for body in reversed(group_objects(self._group_plan(group, ()))):
            if (problem := await self._objects.remove(body)) is not None:
                log.warning("gateways not removed", group=group, reason=problem[0], message=problem[1])
                return
        state = self._groups[group]
        state.removed, state.structure, state.applied_at = True, (), 0.0


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
