"""Queueing theory and the physics of a batching engine: numbers in, numbers out."""

from penstock.queueing.approximations import allen_cunneen_wait, hayward_wait, kingman_wait, whitt_wait
from penstock.queueing.erlang import erlang_b, erlang_c, littles_law
from penstock.queueing.errors import InvalidParameter, QueueingError, UnstableQueue
from penstock.queueing.finite_queue import MMcK
from penstock.queueing.impatient_queue import ErlangA
from penstock.queueing.many_server import MMc
from penstock.queueing.single_server import MD1, MG1, MM1
from penstock.queueing.staffing import halfin_whitt_beta, square_root_staffing

__all__ = [
    "MD1",
    "MG1",
    "MM1",
    "ErlangA",
    "InvalidParameter",
    "MMc",
    "MMcK",
    "QueueingError",
    "UnstableQueue",
    "allen_cunneen_wait",
    "erlang_b",
    "erlang_c",
    "halfin_whitt_beta",
    "hayward_wait",
    "kingman_wait",
    "littles_law",
    "square_root_staffing",
    "whitt_wait",
]
