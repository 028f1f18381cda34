"""Values whose record is shorter than their fields: a signal is its number, or why there is none.

17.2                                            measured
null                                            missing; never zero
{"absence": "StaleSeries", "detail": "..."}     missing, with what came back instead
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock.model.reading import Absence, Reading
from penstock.records import scalars
from penstock.records.fault import RecordFault


def from_reading(reading: Reading) -> Any:
    """Return the number, or why there is none."""
    if reading.value is not None:
        return scalars.from_float(reading.value)
    absence = Absence.NO_SERIES if reading.absence is None else reading.absence
    return {"absence": absence.value, "detail": reading.detail}


def to_reading(plain: Any, path: str) -> Reading:
    """Return the signal; null and an absence are missing."""
    if plain is None:
        return Reading.missing(Absence.NO_SERIES, f"{path} is null in the observation")
    if not isinstance(plain, dict):
        return Reading(scalars.number(plain, path))
    scalars.refuse_unknown(plain, ("absence", "detail"), path)
    scalars.require(plain, ("absence",), path)
    try:
        absence = Absence(plain["absence"])
    except ValueError:
        known = ", ".join(Absence)
        raise RecordFault(
            f"{path}.absence", f"{plain['absence']!r} is not known; known are {known}"
        ) from None
    return Reading.missing(absence, scalars.text(plain.get("detail", ""), f"{path}.detail"))


SPECIAL: Mapping[Any, tuple[Callable[[Any], Any], Callable[[Any, str], Any]]] = {
    Reading: (from_reading, to_reading),
}
