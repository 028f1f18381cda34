"""Revisions of a pod template: what they, their Deployments and the Services of the arms are called.

A revision is a hash of the template's content: the same content, whatever the order of its keys, is the
same revision, also after others came between. 10 hexadecimal digits: two of 1,000 revisions of one service
share a name once in two million services.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

DIGITS = 10


class Arm(StrEnum):
    """What a revision is for. Earlier ones are kept without replicas, to go back to."""

    STABLE = "stable"
    CANARY = "canary"
    RETIRED = "retired"


def template_revision(template: Mapping[str, Any]) -> str:
    """Return the revision of a pod template."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def revision_name(service: str, revision: str) -> str:
    """Return the name of a revision's Deployment: at most 57 characters, since a service's has 46."""
    return f"{service}-{revision}"


def arm_service_name(service: str, arm: Arm) -> str:
    """Return the name of the Service that selects one arm's pods."""
    return f"{service}-{arm}"
