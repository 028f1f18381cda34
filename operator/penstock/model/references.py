"""Who is meant, and how far Penstock may go: the small words of a spec that all its parts share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

SERVICE_KIND: Final = "InferenceService"


class Mode(StrEnum):
    """How far Penstock may go."""

    OBSERVE = "Observe"
    ENFORCE = "Enforce"
    PAUSED = "Paused"


class ServiceKey(NamedTuple):
    """Identity of an InferenceService; a tuple, because a tick looks thousands of services up by it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class TargetRef:
    """The workload to scale: anything with ``/scale``, in the same namespace."""

    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """The Service in front of the target."""

    name: str
    port: int | None = None


def is_service(holder: str) -> bool:
    """Whether it is one of ours that scales a target, of which ``Kind/name`` is known."""
    return holder.startswith(f"{SERVICE_KIND}/")
