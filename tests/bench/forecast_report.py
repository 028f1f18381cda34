"""What the benchmark of the demand bound finds: rows, whether they meet their goal, how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.forecast_plot import Coverage, plot_coverage
from penstock.queueing.domain import FloatArray

TICK = 15.0
AIM, STEADY_POINTS, DRIFTING_POINTS = 0.95, 0.02, 0.06
console = Console(width=150)


@dataclass(frozen=True, slots=True)
class Series:
    """Rates over the last minute at each tick, requests and (where lengths are known) work in tokens."""

    name: str
    rates: FloatArray
    work: FloatArray | None
    steady: bool = False

    @property
    def is_hour(self) -> bool:
        """Whether it ends before most margins have been learned."""
        return self.rates.size * TICK <= 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One bound on one trace."""

    series: Series
    lead: float
    name: str
    covered: float
    over: float
    pinball: float
    followed: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is judged."""
        return self.name.startswith("Penstock")

    @property
    def goal_points(self) -> float:
        """Return how far from the aim it may be."""
        return STEADY_POINTS if self.series.steady else DRIFTING_POINTS

    @property
    def beyond(self) -> float:
        """Return by how many points it is further from the aim than the goal; 0 within it."""
        return max(0.0, abs(self.covered - AIM) - self.goal_points)

    @property
    def missed(self) -> float:
        """Return by how many points the goal of a bound of ours is missed; 0 when it is met."""
        return self.beyond if self.is_ours else 0.0


def print_rows(rows: list[Row]) -> None:
    """Print one line a bound."""
    table = Table(title="Highest rate of the lead time, aim 0.95", title_justify="left")
    for name in ("trace", "lead", "bound"):
        table.add_column(name, no_wrap=True)
    for name in ("covered", "over", "pinball %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("followed, % of the ticks")
    before: tuple[str, float] | None = None
    for row in rows:
        key = (row.series.name, row.lead)
        if before is not None and key[0] != before[0]:
            table.add_section()
        mark = (
            ""
            if not row.is_ours
            else (f"[red]MISSED by {100 * row.missed:.1f}" if row.missed else "[green]met")
        )
        table.add_row(
            row.series.name if key[0] != (before or ("", 0))[0] else "",
            f"{row.lead:.0f} s" if key != before else "",
            row.name,
            f"{row.covered:.3f}",
            f"{100 * row.over:+.0f} %",
            f"{row.pinball:.2f}",
            mark,
            row.followed,
        )
        before = key
    console.print(table)


def print_counts(rows: list[Row]) -> None:
    """Print how many series and lead times each bound holds its coverage on, and the hours among them."""
    for name in dict.fromkeys(row.name for row in rows):
        found = [row for row in rows if row.name == name]
        hours = [row for row in found if row.series.is_hour]
        held, of_hours = (sum(not row.beyond for row in each) for each in (found, hours))
        longer = f"{held - of_hours} of {len(found) - len(hours)} of a day or more"
        console.print(f"  {name}: within the goal on {longer}, on {of_hours} of {len(hours)} of an hour")


def draw(path: Path, rows: list[Row]) -> None:
    """Draw the coverage of our bounds."""
    found = [
        Coverage(
            row.series.name + row.name.removeprefix("Penstock"),
            row.lead,
            row.covered,
            AIM - row.goal_points,
            AIM + row.goal_points,
        )
        for row in rows
    ]
    plot_coverage(path, found, AIM)
