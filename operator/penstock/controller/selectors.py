"""Which Services select which pods, without going through all Services for every pod.

Asked at every tick for each service that names no serviceRef: 10,000 of those in one namespace compared
with 10,000 Services would be 10^8 comparisons. So a Service is filed under one label of its selector,
the one that the fewest others use: ``app=chat-17``, not ``part-of=fleet``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.model.spec import ServiceSpec

Selector = Mapping[str, str]
Label = tuple[str, str, str]  # namespace, key, value


@dataclass(slots=True)
class ServiceSelectors:
    """Selectors of Services by namespace and name."""

    _filed: dict[Label, dict[str, Selector]] = field(default_factory=dict)
    _label_of: dict[tuple[str, str], Label] = field(default_factory=dict)
    _users: Counter[Label] = field(default_factory=Counter)

    def put(self, namespace: str, name: str, selector: Selector) -> None:
        """Take in a Service; one without a selector selects nothing."""
        self.drop(namespace, name)
        if not selector:
            return
        labels = [(namespace, key, value) for key, value in selector.items()]
        rarest = min(labels, key=self._users.__getitem__)
        self._users.update(labels)
        self._filed.setdefault(rarest, {})[name] = selector
        self._label_of[namespace, name] = rarest

    def drop(self, namespace: str, name: str) -> None:
        """Forget a Service."""
        label = self._label_of.pop((namespace, name), None)
        if label is None:
            return
        selector = self._filed[label].pop(name)
        if not self._filed[label]:
            del self._filed[label]
        for key, value in selector.items():
            self._users[namespace, key, value] -= 1
            if not self._users[namespace, key, value]:
                del self._users[namespace, key, value]

    def selecting(self, namespace: str, labels: Mapping[str, str]) -> list[str]:
        """Return the names of the Services that select pods with `labels`, sorted."""
        found = []
        for key, value in labels.items():
            for name, selector in self._filed.get((namespace, key, value), _NONE).items():
                if selector.items() <= labels.items():
                    found.append(name)
        return sorted(found)


_NONE: Mapping[str, Selector] = {}


def ambiguity(spec: ServiceSpec, found: Sequence[str]) -> str:
    """Say why the default Service cannot be told."""
    if not found:
        return f"no Service selects the pods of {spec.target}: create one, or name it in workload.serviceRef"
    listed = ", ".join(found)
    return f"several Services select the pods of {spec.target} ({listed}): name one in workload.serviceRef"
