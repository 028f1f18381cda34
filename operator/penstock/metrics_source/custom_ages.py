"""How old the samples behind a service's own queries are, and which queries have lost all of theirs.

``sum(rate(foo[1m])) or vector(0)`` gives 0 for ever after foo has gone, and missing is not zero. Nor is it
missing where foo has never been: that is what ``or vector(0)`` is for. So selectors without a sample now are
asked for once more, by what they had within the last hour; while all have samples that costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import QueryError
from penstock.metrics_source.identity import PART_LABEL, SeriesSettings
from penstock.metrics_source.promql import label_union
from penstock.model.reading import Absence, Reading

REMEMBERED = "1h"
_NO_SELECTORS = Reading.missing(Absence.NOT_EXPOSED, "the custom queries read no series")


@dataclass(frozen=True, slots=True)
class SelectorAges:
    """What is known of the selectors' samples; `worst` is in seconds, of those that have any."""

    worst: Reading
    alive: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()  # no sample now, and some within the last hour

    def lost(self, selectors: Iterable[str]) -> bool:
        """Whether a query of these selectors has nothing to read any more, and had.

        One that still has samples speaks for the query: in ``new_total or old_total`` the old name ends with
        an upgrade, and in ``ok_total + (shed_total or vector(0))`` the second with each restart.
        """
        mine = frozenset(selectors)
        return not mine & self.alive and bool(mine & self.ended)


NOT_ASKED = SelectorAges(_NO_SELECTORS)


async def selector_ages(
    asker: Asker, selectors: Iterable[str], settings: SeriesSettings, limits: CollectLimits
) -> SelectorAges:
    """Ask for the selectors' newest samples; a question without an answer tells nothing of them."""
    distinct = dict(enumerate(dict.fromkeys(selectors)))
    if not distinct:
        return NOT_ASKED
    ages = await _by_selector(asker, distinct, "min(time() - timestamp({}))", limits)
    if isinstance(ages, QueryError):
        return SelectorAges(absences.query_failed("the age of the custom series", ages))
    if not ages:
        return SelectorAges(absences.custom_stale(settings))
    silent = {number: each for number, each in distinct.items() if each not in ages}
    # Not present_over_time: it drops names, and two metrics of one pod would be one series twice.
    had = await _by_selector(asker, silent, f"group(last_over_time({{}}[{REMEMBERED}]))", limits)
    ended = frozenset(had) if not isinstance(had, QueryError) else frozenset()
    return SelectorAges(Reading(max(ages.values())), frozenset(ages), ended)


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
    values = {labels.get(PART_LABEL): value for labels, value in answer.samples}
    return {each: values[str(number)] for number, each in selectors.items() if str(number) in values}
