"""A measured signal: a value, or the reason why there is none.

Missing is not zero (KEDA #3065: Prometheus broke, every query came back empty, every service was
scaled to its minimum at peak). So a signal is never a bare float: whoever uses one must say what
happens when it is absent.
"""

from __future__ import annotations

from enum import StrEnum

from penstock.model.value import value


class Absence(StrEnum):
    """Why a signal has no value; also the reason of the condition that reports it."""

    NO_SERIES = "NoSeries"  # the query worked, nothing matched
    STALE = "StaleSeries"  # the newest sample is older than the staleness bound
    NOT_A_NUMBER = "NotANumber"  # NaN or Inf came back
    SEVERAL_SERIES = "SeveralSeries"  # one value was expected
    QUERY_FAILED = "QueryFailed"  # time-out, HTTP error, refused or unparsable query
    PARTIAL = "PartialReporting"  # fewer pods report than are ready
    NOT_EXPOSED = "NotExposed"  # this engine has no such metric
    CLOCK_SKEW = "ClockSkew"  # Prometheus and the operator disagree about the time
    TOO_FEW_SAMPLES = "TooFewSamples"  # pods report, but a rate needs two scrapes: they have just started
    NO_REQUESTS = "NoRequests"  # nothing was served in the window: nothing is broken, there is no latency


@value(frozen=True, slots=True)
class Reading:
    """A value (``absence is None``) or the absence of one with what came back instead.

    A true zero is ``Reading(0.0)``.
    """

    value: float | None
    absence: Absence | None = None
    detail: str = ""

    @classmethod
    def missing(cls, absence: Absence, detail: str = "") -> Reading:
        """Return a reading without a value; `detail` names the query and what came back."""
        return cls(None, absence, detail)

    @property
    def present(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def otherwise(self, default: float) -> float:
        """Return the value, or `default` where the caller has decided what absence means."""
        return default if self.value is None else self.value
