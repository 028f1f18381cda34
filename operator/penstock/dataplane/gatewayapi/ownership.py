"""Whether somebody else steers a route's weights: then ours would be fought over, and traffic would swing.

`rules` and `backendRefs` are atomic lists, so managed fields cannot say who owns a weight: whoever wrote
the route last owns all of them. What can be told: another object that owns the route, and the marks and
field managers of the known progressive delivery controllers.
Source: Gateway API v1.4.0 HTTPRoute CRD; Argo Rollouts' Gateway API plugin and Flagger, their documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

OURS: Final = "penstock"
#: Set while a canary of Argo Rollouts is under way, and naming the Rollouts that steer the route.
_MARKS: Final = {
    "rollouts.argoproj.io/gatewayapi-canary": "Argo Rollouts",
    "rollouts.argoproj.io/gatewayapi-active-rollouts": "Argo Rollouts",
}
_MANAGERS: Final = {
    "flagger": "Flagger",
    "rollouts-controller": "Argo Rollouts",
    "argo-rollouts": "Argo Rollouts",
    "gatewayapi-plugin": "Argo Rollouts",
    "rollouts-plugin-trafficrouter-gatewayapi": "Argo Rollouts",
}


def other_owner(route: Mapping[str, Any]) -> str | None:
    """Return who steers the route instead of us, as a user knows it; None for nobody."""
    metadata = route.get("metadata") or {}
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            return f"{reference.get('kind')} {reference.get('name')}"
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    for mark, owner in _MARKS.items():
        if marks.get(mark):
            return owner
    for entry in metadata.get("managedFields") or ():
        controller = _MANAGERS.get(str(entry.get("manager", "")))
        if controller is not None and _owns_rules(entry):
            return controller
    return None


def last_writer(route: Mapping[str, Any]) -> str:
    """Return the field manager that wrote the route's rules last; "" where that is not recorded."""
    entries = [each for each in (route.get("metadata") or {}).get("managedFields") or () if _owns_rules(each)]
    return str(max(entries, key=lambda each: str(each.get("time", "")))["manager"]) if entries else ""


def _owns_rules(entry: Mapping[str, Any]) -> bool:
    spec = (entry.get("fieldsV1") or {}).get("f:spec")
    return isinstance(spec, Mapping) and "f:rules" in spec
