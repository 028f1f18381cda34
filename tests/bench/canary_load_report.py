"""Canaries at unequal load as a table, and the goals they are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.canary_load_run import LoadCell, Rule, endings
from bench.canary_peers import NEVER
from bench.canary_report import mean_minutes
from bench.dataplane_report import SIMULATION, Figure, Goal, console

COLUMNS = tuple(rule.value for rule in Rule)


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """Shares of the canaries of a cell under a rule, and mean minutes."""

    cell: LoadCell
    rule: Rule
    rolled_back: float
    promoted: float
    minutes: tuple[float, float]  # until rollback, until promotion

    @classmethod
    def of(cls, cell: LoadCell, rule: Rule, runs: int, seed: int) -> LoadOutcome:
        """Simulate a cell."""
        ends = endings(cell, rule, runs, seed)
        found = [each[each < NEVER] for each in ends]
        shares = [float((each < NEVER).mean()) for each in ends]
        return cls(cell, rule, shares[0], shares[1], (mean_minutes(found[0]), mean_minutes(found[1])))

    def __str__(self) -> str:
        parts = []
        for what, share, minutes in (
            ("back", self.rolled_back, self.minutes[0]),
            ("promoted", self.promoted, self.minutes[1]),
        ):
            parts.append(f"{what} {100 * share:.1f} %" + (f", {minutes:.0f} min" if share else ""))
        return "; ".join(parts)


def load_goals(found: Sequence[LoadOutcome]) -> list[Figure]:
    """Return wrong promotions of what is slower, and false rollbacks where a model tells the loads apart."""
    figures = []
    for each in found:
        at = f"{each.cell.name}; {each.rule.value}"
        if each.rule is Rule.BEFORE:
            continue
        if each.cell.slower > 1:
            goal = (Goal.AT_MOST, 2.0)
            figures.append(Figure("wrong promotion", at, 100 * each.promoted, "%", SIMULATION, goal))
        elif each.rule is Rule.BY_MODEL:
            goal = (Goal.AT_MOST, 4.0)
            figures.append(Figure("false rollback", at, 100 * each.rolled_back, "%", SIMULATION, goal))
    return figures


def print_loaded(found: Sequence[LoadOutcome]) -> None:
    """Print cells down, rules across."""
    table = Table(
        title="At unequal load: rolled back and promoted (share, mean minutes)", title_justify="left"
    )
    for name in ("", *COLUMNS):
        table.add_column(name)
    for name, cells in _rows(found):
        table.add_row(name, *cells)
    console.print(table)


def print_loaded_markdown(found: Sequence[LoadOutcome], runs: int, seed: int) -> None:
    """Print the table as it stands in docs/canary-judge.md."""
    print(f"\n{runs:,} canaries in every cell, seed {seed}.\n")
    print("| |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, cells in _rows(found):
        print(f"| {name} |", " | ".join(cells), "|")


def _rows(found: Sequence[LoadOutcome]) -> Iterator[tuple[str, list[str]]]:
    for cell in dict.fromkeys(each.cell for each in found):
        yield cell.name, [str(each) for each in found if each.cell == cell]
