"""A text chart of a latency percentile against replicas, with the objective's line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from penstock.cli.plan_question import Outcome
from penstock.model.spec import Objective
from penstock.policy import wording


def chart(
    outcomes: Sequence[Outcome], objective: Objective, *, chosen: int, columns: int, ascii_only: bool
) -> list[str]:
    """Return one line per outcome: count, bar, value; at most `columns` characters wide.

    The objective stands at 60 % of the bar's room. What is off the chart ends in an arrow.
    """
    bar, line, arrow = ("#", "|", ">") if ascii_only else ("█", "│", "▶")
    labels = [str(each.replicas) for each in outcomes]
    values = [wording.seconds(each.seconds(objective)) for each in outcomes]
    left = max(len(label) for label in labels) + 2
    room = max(20, columns - left - max(len(value) for value in values) - 3)
    mark = round(0.6 * room)
    lines = []
    for label, value, each in zip(labels, values, outcomes, strict=True):
        seconds = each.seconds(objective)
        length = math.inf if math.isinf(seconds) else round(mark * seconds / objective.seconds)
        if length > room:
            cells = [bar] * (room - 1) + [arrow]
        else:
            cells = [bar] * int(length) + [" "] * (room - int(length))
        # The line stays visible inside a bar as the place where the bar crosses it.
        cells[mark] = line
        pointer = "→" if not ascii_only else ">"
        head = f"{pointer if each.replicas == chosen else ' '}{label:>{left - 1}}"
        lines.append(f"{head} {''.join(cells)} {value}")
    return lines
