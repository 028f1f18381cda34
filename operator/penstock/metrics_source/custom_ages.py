"""How old the samples behind a service's own queries are, and which queries have lost all of theirs.

``sum(rate(foo[1m])) or vector(0)`` gives 0 for ever after foo has gone, and missing is not zero. Nor is it
missing where foo has never been: that is what ``or vector(0)`` is for. So selectors without a sample now are
asked for once more, by what they had within the last hour; while all have samples that costs nothing.
One question asks for all of them; where it fails each is asked for alone, so that one which cannot be
answered does not hide that another has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.metrics_source.identity import PART_LABEL, SeriesSettings
from penstock.metrics_source.partial_answers import incomplete
from penstock.metrics_source.promql import duration, label_union
from penstock.model.reading import Absence, Reading

REMEMBERED = "1h"
MOST_ONE_BY_ONE = 16
_NO_SELECTORS = Reading.missing(Absence.NOT_EXPOSED, "no custom query that was answered reads series")
# A server that is down or refuses the credentials would not answer the questions one by one either.
_OF_THE_QUESTION = (ErrorKind.BAD_QUERY, ErrorKind.TIMEOUT, ErrorKind.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class SelectorAges:
    """What is known of the selectors' samples; `worst` is in seconds, of those that have any."""

    worst: Reading
    alive: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()  # no sample now, and some within the last hour
    unknown: frozenset[str] = frozenset()  # whether they have samples could not be read
    failure: str = ""  # why not

    def lost(self, selectors: Iterable[str]) -> bool:
        """Whether a query of these selectors has nothing to read any more, and had.

        One that still has samples speaks for the query: in ``new_total or old_total`` the old name ends with
        an upgrade, and in ``ok_total + (shed_total or vector(0))`` the second with each restart.
        """
        mine = frozenset(selectors)
        return not mine & (self.alive | self.unknown) and bool(mine & self.ended)

    def in_doubt(self, selectors: Iterable[str]) -> bool:
        """Whether it is not known that a query of these selectors has anything to read."""
        mine = frozenset(selectors)
        return not mine & self.alive and bool(mine & self.unknown)


NOT_ASKED = SelectorAges(_NO_SELECTORS)


async def selector_ages(
    asker: Asker, selectors: Iterable[str], settings: SeriesSettings, limits: CollectLimits
) -> SelectorAges:
    """Ask for the selectors' newest samples; a question without an answer leaves its selectors unknown."""
    distinct = dict(enumerate(dict.fromkeys(selectors)))
    if not distinct:
        return NOT_ASKED
    ages = await _by_selector(asker, distinct, "min(time() - timestamp({}))", limits)
    if isinstance(ages, QueryError):
        worst, failure = absences.query_failed("the age of the custom series", ages), ages.message
        alive, unknown = frozenset[str](), frozenset(distinct.values())
        if ages.kind in _OF_THE_QUESTION:
            alive, unknown = await _one_by_one(asker, list(distinct.values()), settings, limits)
    else:
        worst, failure = Reading(max(ages.values(), default=0.0)), ""
        alive, unknown = frozenset(ages), frozenset()
    if not alive | unknown:
        return SelectorAges(absences.custom_stale(settings))
    silent = {number: each for number, each in distinct.items() if each not in alive | unknown}
    # Not present_over_time: it drops names, and two metrics of one pod would be one series twice.
    had = await _by_selector(asker, silent, f"group(last_over_time({{}}[{REMEMBERED}]))", limits)
    if isinstance(had, QueryError):
        return SelectorAges(worst, alive, unknown=unknown.union(silent.values()), failure=had.message)
    return SelectorAges(worst, alive, frozenset(had), unknown, failure)


async def _by_selector(
    asker: Asker, selectors: dict[int, str], template: str, limits: CollectLimits
) -> dict[str, float] | QueryError:
    """Return the number that the template gives for each selector; those without one are left out."""
    if not selectors:
        return {}
    query = label_union({str(number): template.format(each) for number, each in selectors.items()})
    answer = await asker.one(query, limits.custom(series=len(selectors) + 1))
    if isinstance(answer, QueryError):
        return answer
    if (why := incomplete("the age of the custom series", answer.warnings)) is not None:
        return QueryError(ErrorKind.UNAVAILABLE, query, why.detail)
    values = {labels.get(PART_LABEL): value for labels, value in answer.samples}
    return {each: values[str(number)] for number, each in selectors.items() if str(number) in values}


async def _one_by_one(
    asker: Asker, selectors: Sequence[str], settings: SeriesSettings, limits: CollectLimits
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the selectors that have fresh samples, and those of which that is not known.

    timestamp() drops names, so that two metrics of one pod are one series twice; here names are kept.
    """
    asked, fresh = selectors[:MOST_ONE_BY_ONE], f"[{duration(settings.stale_after_seconds)}]"
    queries = [f"group({each} and last_over_time({each}{fresh}))" for each in asked]
    answers = dict(zip(asked, await asker.all(queries, limits.custom()), strict=True))
    known = {
        each: len(answer.samples) > 0
        for each, answer in answers.items()
        if not isinstance(answer, QueryError) and incomplete(each, answer.warnings) is None
    }
    alive = frozenset(each for each, has_samples in known.items() if has_samples)
    return alive, frozenset(selectors) - known.keys()
