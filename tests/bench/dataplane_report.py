"""Figures of the data-plane benchmark: what was measured, the goal, whether it is met, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from rich.console import Console
from rich.table import Table

console = Console(width=132, soft_wrap=False)

ENVOY = "Envoy"
ENVOY_AND_ENGINES = "Envoy, stand-in engines"
SIMULATION = "simulation"


class Goal(Enum):
    """Which side of the goal is good."""

    BELOW = "<"
    AT_MOST = "<="
    AT_LEAST = ">="
    EXACTLY = "="

    def holds(self, value: float, goal: float) -> bool:
        """Whether `value` is on the good side; nothing measured (NaN) is not."""
        return {
            Goal.BELOW: value < goal,
            Goal.AT_MOST: value <= goal,
            Goal.AT_LEAST: value >= goal,
            Goal.EXACTLY: value == goal,
        }[self]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. Without `goal` it is told, not judged. `void` says why it could not be measured."""

    section: str
    name: str
    value: float
    unit: str
    where: str
    goal: tuple[Goal, float] | None = None
    void: str = ""

    @property
    def missed(self) -> bool:
        """Whether there is a goal and it is not met; a figure that is void meets none."""
        if self.goal is None:
            return False
        side, goal = self.goal
        return bool(self.void) or math.isnan(self.value) or not side.holds(self.value, goal)


def print_figures(figures: Sequence[Figure], title: str = "Data plane") -> None:
    """Print one row a figure."""
    table = Table(title=title, title_justify="left")
    for name in ("", "figure", "measured on"):
        table.add_column(name)
    for name in ("measured", "goal", ""):
        table.add_column(name, justify="right", no_wrap=True)
    section = ""
    for figure in figures:
        if figure.section != section and section:
            table.add_section()
        goal = "" if figure.goal is None else f"{figure.goal[0].value} {figure.goal[1]:g} {figure.unit}"
        verdict = "" if figure.goal is None else ("[red]missed" if figure.missed else "[green]met")
        measured = "void" if figure.void else f"{figure.value:.3g} {figure.unit}"
        table.add_row(
            figure.section if figure.section != section else "",
            figure.name + (f" ({figure.void})" if figure.void else ""),
            figure.where,
            measured,
            goal,
            verdict,
        )
        section = figure.section
    console.print(table)


def print_grid(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Print a table of one row a policy."""
    console.print(f"\n[bold]{title}")
    table = Table()
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name, cells in rows:
        table.add_row(name, *cells)
    console.print(table)
