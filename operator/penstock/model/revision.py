"""Revisions of a pod template: the same name for the same template, whatever the order of its keys.

Ten characters of the alphabet Kubernetes uses for its own hashes: no vowels, so that no word comes out,
and DNS-safe, so that a revision may be a label and the end of a Deployment's name. 27^10 templates:
two of a million differ in name with probability 0.998.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.model.references import TargetRef

LENGTH = 10
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class WorkloadTemplate:
    """A pod template as the user wrote it: its canonical JSON `text`, and the `revision` of it."""

    text: str
    revision: str

    def body(self) -> dict[str, Any]:
        """Return the template as the API wants it, a copy that may be changed."""
        body: dict[str, Any] = json.loads(self.text)
        return body


def workload_template(template: Mapping[str, Any]) -> WorkloadTemplate:
    """Return the frozen form of a pod template."""
    text = json.dumps(_without_nulls(template), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return WorkloadTemplate(text, _name(text))


def template_revision(template: Mapping[str, Any]) -> str:
    """Return the revision of a pod template: the same for any order of keys, null being absent."""
    return workload_template(template).revision


def owned_target(service: str, revision: str) -> TargetRef:
    """Return the Deployment that is ours for a revision of the service named `service`."""
    return TargetRef("apps", "Deployment", f"{service}-{revision}")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(each) for each in value]
    return value


def _name(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    characters = []
    for _ in range(LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)
