"""How far a knob may go: the weaker of what the service and the knob itself say."""

from __future__ import annotations

from penstock.model.spec import Mode


def weaker(service: Mode, knob: Mode) -> Mode:
    """Return the mode of one knob: Observe over Paused over Enforce.

    A knob that only observes has nothing in force that Paused could freeze.
    """
    if service is Mode.OBSERVE or knob is Mode.OBSERVE:
        return Mode.OBSERVE
    return service if knob is Mode.ENFORCE else knob
