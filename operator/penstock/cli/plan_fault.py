"""How `penstock plan` ends when it has no plan: one cause, one fix, an exit status of its own."""

from __future__ import annotations

import click

BAD_INPUT = 2
UNREACHABLE = 3


class PlanFault(click.ClickException):
    """Input that cannot be planned: `cause` names the place, `fix` what to write instead."""

    exit_code = BAD_INPUT

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}\nFix: {fix}")


class NoPlan(click.ClickException):
    """A question that was understood and whose answer is that no replica count will do."""

    exit_code = UNREACHABLE

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}\nFix: {fix}")
