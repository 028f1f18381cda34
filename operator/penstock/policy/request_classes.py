"""Request classes: how much of the limit each may fill, and what is wrong with them.

The highest priority is shed last whatever the percentages say: each class gets at most what the next
higher one gets, less a reserve. Keeping a few places back is enough (trunk reservation, Key 1990): with
half of a full pool's load interactive, r places lower that class's shedding by about 2^r.
"""

from __future__ import annotations

from collections import Counter

from penstock.model.decision import TrafficReason
from penstock.model.spec import AdmissionSpec
from penstock.model.traffic import ClassShare

RESERVE = 0.05  # of the limit, kept for each higher priority
LEAST_SHARE = 0.05  # a class that may never enter would be switched off, not shed first

Refusal = tuple[TrafficReason, str]


def class_shares(admission: AdmissionSpec) -> tuple[ClassShare, ...]:
    """Return the classes, highest priority first; none where they are refused: all requests are alike."""
    if admission_refusal(admission) is not None:
        return ()
    shares: list[ClassShare] = []
    for each in sorted(admission.classes, key=lambda each: -each.priority):
        ratio = each.max_percent / 100
        if shares:
            ratio = min(ratio, shares[-1].ratio - RESERVE)
        shares.append(ClassShare(each.name, each.priority, round(max(LEAST_SHARE, ratio), 4)))
    return tuple(shares)


def admission_refusal(admission: AdmissionSpec) -> Refusal | None:
    """Return why the classes cannot be used, with the fix; None where they can."""
    alike = [count for count in Counter(each.priority for each in admission.classes).items() if count[1] > 1]
    if alike:
        priority = alike[0][0]
        names = " and ".join(each.name for each in admission.classes if each.priority == priority)
        return (
            TrafficReason.EQUAL_PRIORITIES,
            f"admission.classes {names} all have priority {priority}: "
            "give each its own, the highest is shed last",
        )
    names = ", ".join(each.name for each in admission.classes)
    default = admission.default_class
    if default and default not in {each.name for each in admission.classes}:
        known = f"name one of {names}" if names else "list it in admission.classes"
        return (
            TrafficReason.UNKNOWN_DEFAULT_CLASS,
            f"admission.defaultClass {default} is not among admission.classes: {known}",
        )
    if admission.classes and not default:
        return (
            TrafficReason.UNKNOWN_DEFAULT_CLASS,
            "admission.classes needs admission.defaultClass, for requests that name no class: "
            f"name one of {names}",
        )
    return None
