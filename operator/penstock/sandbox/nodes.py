"""Where pods find room: nodes of so many pods, and more nodes after a while, as a cluster autoscaler does.

A pod without room stays Pending with the scheduler's own condition. While any does, and fewer than
`max_nodes` exist, one node is on its way, `provision_seconds` from when it was first missed. Time is
an argument.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The cluster's size and how fast it grows."""

    pods_per_node: int = 8
    nodes: int = 1
    max_nodes: int = 1
    provision_seconds: float = 60.0


class NodePool:
    """Assigns pods to nodes, fullest first so that a new node is for what does not fit."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._nodes = [f"sandbox-node-{i}" for i in range(settings.nodes)]
        self._pods: dict[str, str] = {}  # pod -> node
        self._next_node_at: float | None = None

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes there are."""
        return list(self._nodes)

    def place(self, pod: str) -> str | None:
        """Return the pod's node, assigning one if there is room; None if there is none."""
        if pod not in self._pods:
            used = Counter(self._pods.values())
            free = [node for node in self._nodes if used[node] < self._settings.pods_per_node]
            if not free:
                return None
            self._pods[pod] = max(free, key=lambda node: used[node])
        return self._pods[pod]

    def release(self, pod: str) -> None:
        """Give the pod's room back."""
        self._pods.pop(pod, None)

    def grow(self, *, unplaced: int, now: float) -> float | None:
        """Order, await or add a node; return when to look again, None if no node is on its way."""
        if not unplaced or len(self._nodes) >= self._settings.max_nodes:
            self._next_node_at = None
            return None
        if self._next_node_at is None:
            self._next_node_at = now + self._settings.provision_seconds
        if now < self._next_node_at:
            return self._next_node_at
        self._nodes.append(f"sandbox-node-{len(self._nodes)}")
        self._next_node_at = None
        return now

    def resize(self, *, nodes: int, max_nodes: int) -> None:
        """Change the cluster's size; pods keep the nodes they have."""
        self._settings = NodeSettings(
            self._settings.pods_per_node, nodes, max_nodes, self._settings.provision_seconds
        )
        self._nodes += [f"sandbox-node-{i}" for i in range(len(self._nodes), nodes)]

    @property
    def shortage(self) -> str:
        """The scheduler's sentence for a pod that does not fit."""
        count = len(self._nodes)
        return (
            f"0/{count} nodes are available: {count} Too many pods. preemption: 0/{count} nodes are "
            f"available: {count} No preemption victims found for incoming pod."
        )
