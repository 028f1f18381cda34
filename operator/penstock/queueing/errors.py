"""Domain errors of the queueing formulas: what was wrong with the numbers, and what would be right.

`InvalidParameter` is a value no queue can have (a negative rate, 2.5 servers, NaN). `UnstableQueue`
is a queue that exists but has no steady state: its waits grow for as long as the load lasts.
"""

from __future__ import annotations

import math


class QueueingError(ValueError):
    """Base of the errors that the formulas raise; the message is fit for a user's eyes."""


class InvalidParameter(QueueingError):  # noqa: N818 - the finding is the name
    """A parameter outside its domain; `parameter` is its name."""

    def __init__(self, parameter: str, complaint: str) -> None:
        super().__init__(f"{parameter} {complaint}")
        self.parameter = parameter


class UnstableQueue(QueueingError):  # noqa: N818
    """Work arrives at least as fast as the servers can do it: no finite mean wait exists.

    `utilization` is rho >= 1; `servers_needed` the smallest stable number of such servers.
    """

    def __init__(self, offered_load: float, servers: float, where: str = "") -> None:
        self.utilization = offered_load / servers
        self.servers_needed = math.floor(offered_load) + 1
        super().__init__(
            f"unstable{where}: utilization rho = {self.utilization:.4g} >= 1 (offered load "
            f"{offered_load:.6g} on {servers:.6g} server{'' if servers == 1 else 's'}), "
            f"the wait grows without bound; stable with {self.servers_needed} servers, or with an "
            f"offered load (arrival rate x mean service time) below {servers:.6g}"
        )
