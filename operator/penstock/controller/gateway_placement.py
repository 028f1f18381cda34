"""Where gateways are put: a group in each namespace, or one for the cluster, in the release's namespace."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.dataplane.envoy.template import GatewayTemplate
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan, backends_of

CLUSTER_GROUP = "penstock"


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

    def home_of(self, group: str) -> str:
        """Return the namespace of a group's pods."""
        return self.namespace or group

    def puts(self, group: str, home: str) -> bool:
        """Whether it is by this placement that a group lives where it does."""
        return (group, home) == (CLUSTER_GROUP, self.namespace) if self.namespace else group == home

    def may_have_told(self, group: str, plan: RoutePlan) -> bool:
        """Whether a stored plan can be one of ours.

        A namespace's own gateways are stored where its tenants may write: no plan of theirs may touch
        another group or read another namespace's endpoints by the operator's hand.
        """
        namespaces = {each.namespace for each in backends_of(plan)}
        if plan.fallback is not None and plan.fallback.service is not None:
            namespaces.add(plan.fallback.service.namespace)
        return self.group_of(plan.key) == group and (
            bool(self.namespace) or namespaces == {plan.key.namespace}
        )
