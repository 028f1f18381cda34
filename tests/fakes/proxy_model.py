"""What one proxy does with a request, as plain arithmetic: the yardstick for the real one and its script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.dataplane.envoy.snapshot import ProxyShare
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

PRIMARY, CANARY, SPILL, SHED = "primary", "canary", "spill", "shed"


@dataclass
class ProxyModel:
    """Services of one proxy and the requests in flight: (service, where they are) to count."""

    plans: Mapping[ServiceKey, RoutePlan]
    shares: Mapping[ServiceKey, ProxyShare]
    in_flight: Counter[tuple[ServiceKey, str]] = field(default_factory=Counter)

    def arrive(self, key: ServiceKey, request_class: str, *, may_spill: bool, drawn_at: int = 10_000) -> str:
        """Decide one request and count it; `drawn_at` below the weight x 100 is the canary's."""
        outcome = self._decide(key, request_class, may_spill=may_spill, drawn_at=drawn_at)
        if outcome != SHED:
            self.in_flight[key, outcome] += 1
        return outcome

    def leave(self, key: ServiceKey, outcome: str) -> None:
        """Forget a request that was let in."""
        self.in_flight[key, outcome] -= 1

    def _decide(self, key: ServiceKey, request_class: str, *, may_spill: bool, drawn_at: int) -> str:
        limit = self.shares[key].limit
        ratios = {each.name: each.ratio for each in self.plans[key].classes}
        arm = self._arm(key, drawn_at)
        if limit is None:
            return arm
        most = max(min(1, limit.in_flight), int(ratios.get(request_class, 1.0) * limit.in_flight + 1e-9))
        if self._pool(key) < most:
            return arm
        return SPILL if may_spill and self._fallback_has_room(key, request_class) else SHED

    def _arm(self, key: ServiceKey, drawn_at: int) -> str:
        canary, room = self.plans[key].canary, self.shares[key].canary_in_flight
        if canary is None or drawn_at >= canary.weight_percent * 100:
            return PRIMARY
        return CANARY if room is None or self.in_flight[key, CANARY] < room else PRIMARY

    def _pool(self, key: ServiceKey) -> int:
        spilled_into = (
            other
            for other, plan in self.plans.items()
            if plan.fallback is not None and plan.fallback.service == key
        )
        arms = self.in_flight[key, PRIMARY] + self.in_flight[key, CANARY]
        return arms + sum(self.in_flight[other, SPILL] for other in spilled_into)

    def _fallback_has_room(self, key: ServiceKey, request_class: str) -> bool:
        fallback, share = self.plans[key].fallback, self.shares[key]
        if fallback is None or (fallback.classes and request_class not in fallback.classes):
            return False
        if self.in_flight[key, SPILL] >= share.fallback_in_flight:
            return False
        if share.pool_limit is None or fallback.service is None:
            return True
        return self._pool(fallback.service) < share.pool_limit
