"""Which InferenceService has a workload that several name: one writer, and the others say who that is.

Two on one workload took each other for a foreign hand: 6, 2 and 6 replicas within half an hour. Only those
that enforce have a claim. Who serves by a workload comes before who tries it as a canary, which scaled
another's production to one replica; then the older comes first, then the name.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock.controller.workloads import WorkloadKey, workload_key
from penstock.model.spec import Mode, ServiceKey, ServiceSpec, TargetRef

_SERVES, _TRIES = range(2)


class _Claim(NamedTuple):
    """Sorted as claims come first; `created` as the API server writes times, in an order as text too."""

    use: int
    created: str
    name: str
    key: ServiceKey


class TargetClaims:
    """Who claims which workload. `first` is for reading at every tick: whose claim comes first."""

    def __init__(self) -> None:
        self.first: dict[WorkloadKey, ServiceKey] = {}
        self._claims: dict[WorkloadKey, list[_Claim]] = {}
        self._claimed: dict[ServiceKey, list[WorkloadKey]] = {}

    def put(self, spec: ServiceSpec, created: str) -> None:
        """Take in what a service claims, in place of what it did before."""
        self.drop(spec.key)
        if spec.mode is not Mode.ENFORCE:
            return
        self._add(spec.target, _Claim(_SERVES, created, spec.key.name, spec.key))
        canary = spec.canary
        if canary is not None and canary.target is not None and canary.mode is Mode.ENFORCE:
            self._add(canary.target, _Claim(_TRIES, created, spec.key.name, spec.key))

    def drop(self, key: ServiceKey) -> None:
        """Forget the claims of a service."""
        for workload in self._claimed.pop(key, ()):
            self._claims[workload] = [each for each in self._claims[workload] if each.key != key]
            self._rank(workload)

    def _add(self, target: TargetRef, claim: _Claim) -> None:
        workload = workload_key(claim.key.namespace, target)
        self._claimed.setdefault(claim.key, []).append(workload)
        self._claims.setdefault(workload, []).append(claim)
        self._rank(workload)

    def _rank(self, workload: WorkloadKey) -> None:
        if self._claims[workload]:
            self.first[workload] = min(self._claims[workload]).key
        else:
            del self._claims[workload], self.first[workload]
