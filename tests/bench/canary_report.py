"""Outcomes of the canary benchmark as tables, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.canary_peers import NEVER
from bench.canary_streams import LAWS, SCRAPE_SECONDS, Cell
from bench.dataplane_report import SIMULATION, Figure, Goal, console
from penstock.queueing.domain import FloatArray

OURS = "ours"
JUDGES = (OURS, "Flagger 1", "Flagger 5", "Argo limit 0", "Argo limit 3", "Kayenta")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judge in one cell: shares of the canaries; minutes and canary requests of the mean verdict.

    `early`: rolled back before it turned bad. Minutes and requests count from when it is bad.
    """

    cell: Cell
    judge: str
    rolled_back: float
    early: float
    promoted: float
    minutes: float
    requests: float
    promoted_minutes: float

    @classmethod
    def of(cls, cell: Cell, judge: str, rolled_back: FloatArray, promoted: FloatArray) -> Outcome:
        """Return shares and means of the scrapes at which verdicts came."""
        found = (rolled_back < NEVER) & (rolled_back >= cell.onset)
        passed = promoted < NEVER
        minutes = mean_minutes(rolled_back[found] - cell.onset)
        return cls(
            cell,
            judge,
            rolled_back=float(found.mean()),
            early=float((rolled_back < cell.onset).mean()),
            promoted=float(passed.mean()),
            minutes=minutes,
            requests=minutes * 60 * cell.rate,
            promoted_minutes=mean_minutes(promoted[passed & (promoted < NEVER - 1)]),
        )

    def __str__(self) -> str:
        share = f"{100 * self.rolled_back:.1f} %"
        if self.early:
            share += f" (+{100 * self.early:.1f} before)"
        if self.cell.healthy or not self.rolled_back:
            return share
        return f"{share}, {self.minutes:.1f} min, {self.requests:,.0f}"

    @property
    def ending(self) -> str:
        """What becomes of those that are not rolled back, in words (ours)."""
        held = max(0.0, 1 - self.rolled_back - self.early - self.promoted)
        passed = f"{100 * self.promoted:.1f} %"
        if self.promoted:
            passed += f", {self.promoted_minutes:.1f} min"
        return f"{passed}; held {100 * held:.1f} %"


def mean_minutes(scrapes: FloatArray) -> float:
    """Return the mean time until a verdict after these scrapes (from 0); NaN for none."""
    return float(((scrapes + 1) * SCRAPE_SECONDS / 60).mean()) if scrapes.size else float("nan")


def goals(found: Sequence[Outcome], says_so: float) -> list[Figure]:
    """Return the figures of the issue's goals that the cells which ran can tell."""
    figures = []
    for each in found:
        cell = each.cell
        if each.judge != OURS:
            continue
        at = f"{cell.name}, {cell.rate:g}/s"
        if cell.name in ("null iid", "null waves"):
            figures.append(_figure("false rollback", at, 100 * each.rolled_back, "%", (Goal.AT_MOST, 1.0)))
        if cell.name == "null noise 6 %" and cell.rate == 5:
            figures.append(_figure("false rollback", at, 100 * each.rolled_back, "%", (Goal.AT_MOST, 4.0)))
        if cell.name == "p95 +20 %":
            figures.append(_figure("wrong promotion", at, 100 * each.promoted, "%", (Goal.AT_MOST, 2.0)))
        if cell.name == "p95 +20 %" and cell.rate == 5:
            figures.append(_figure("power", at, 100 * each.rolled_back, "%", (Goal.AT_LEAST, 95.0)))
            figures.append(_figure("mean time", at, each.minutes, "min", (Goal.AT_MOST, 4.0)))
        if cell.name == "errors .1->1 %" and cell.rate == 5:
            figures.append(_figure("mean time", at, each.minutes, "min", (Goal.AT_MOST, 2.0)))
    figures.sort(key=lambda figure: figure.section)
    name = "undecided verdicts that say insufficient, and how much more"
    figures.append(_figure("0.2 req/s", name, 100 * says_so, "%", (Goal.EXACTLY, 100.0)))
    return figures


def _figure(section: str, name: str, value: float, unit: str, goal: tuple[Goal, float]) -> Figure:
    return Figure(section, name, value, unit, SIMULATION, goal)


def print_outcomes(found: Iterable[Outcome]) -> None:
    """Print one table for every rate: laws down, judges across."""
    for rate, rows in _by_rate(found):
        table = Table(
            title=f"{rate:g} canary requests/s: rolled back (share, mean minutes, canary requests)",
            title_justify="left",
        )
        for name in ("", *JUDGES, "ours promoted"):
            table.add_column(name)
        for name, cells in rows:
            table.add_row(name, *cells)
        console.print(table)


def print_markdown(found: Iterable[Outcome], figures: Sequence[Figure], runs: int, seed: int) -> None:
    """Print the tables as they stand in docs/canary-judge.md."""
    print(f"{runs:,} canaries in every cell, seed {seed}.")
    for rate, rows in _by_rate(found):
        print(f"\n**{rate:g} canary requests a second**\n")
        print("| |", " | ".join((*JUDGES, "ours promoted")), "|")
        print("|---" * (len(JUDGES) + 2) + "|")
        for name, cells in rows:
            print(f"| {name} |", " | ".join(cells), "|")
    print("\n| goal | cell | reached | goal | |\n|---|---|---|---|---|")
    for figure in figures:
        side, bound = figure.goal or (Goal.AT_LEAST, float("nan"))
        mark = "**MISSED**" if figure.missed else "met"
        value, unit = f"{figure.value:.3g}", figure.unit
        print(
            f"| {figure.section} | {figure.name} | {value} {unit} | {side.value} {bound:g} {unit} | {mark} |"
        )


def _by_rate(found: Iterable[Outcome]) -> list[tuple[float, list[tuple[str, list[str]]]]]:
    found = list(found)
    tables = []
    for rate in dict.fromkeys(each.cell.rate for each in found):
        rows = []
        for law in LAWS:
            here = {
                each.judge: each for each in found if each.cell.name == law.name and each.cell.rate == rate
            }
            if here:
                rows.append((law.name, [*(str(here[judge]) for judge in JUDGES), here[OURS].ending]))
        tables.append((rate, rows))
    return tables
