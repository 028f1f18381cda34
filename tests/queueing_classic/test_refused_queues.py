"""Numbers that no queue can have, and queues that have no steady state: the messages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from penstock.queueing import (
    MD1,
    MG1,
    MM1,
    ErlangA,
    InvalidParameter,
    MMc,
    MMcK,
    QueueingError,
    UnstableQueue,
    allen_cunneen_wait,
    erlang_b,
    erlang_c,
    hayward_wait,
    kingman_wait,
    littles_law,
    square_root_staffing,
    whitt_wait,
)
from penstock.queueing.erlang import erlang_c_continuous

NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MM1(-1, 10), "arrival_rate must be a finite number >= 0, got -1"),
        (lambda: MM1(NAN, 10), "arrival_rate must be a finite number >= 0, got nan"),
        (lambda: MM1(1, 0), "service_rate must be a finite number > 0, got 0"),
        (lambda: MM1(1, float("inf")), "service_rate must be a finite number > 0, got inf"),
        (lambda: MM1("1/s", 1), "arrival_rate must be a number, got '1/s'"),
        (lambda: MG1(1, 2, scv=-0.1), "scv must be a finite number >= 0, got -0.1"),
        (lambda: MMc(1, 1, 0), "servers must be a whole number >= 1, got 0"),
        (lambda: MMc(1, 1, 2.5), "servers must be a whole number >= 1, got 2.5"),
        (lambda: MMc(1, 1, NAN), "servers must be a whole number >= 1, got nan"),
        (lambda: erlang_b(0, 1), "servers must be a whole number >= 1, got 0"),
        (lambda: erlang_b(np.array([2, -3]), 1), "servers must be a whole number >= 1, got -3 at index 1"),
        (
            lambda: erlang_b(2, np.array([[1, 2], [NAN, 3]])),
            "offered_load must be a finite number >= 0, got nan at index 1, 0",
        ),
        (lambda: erlang_b(2, ["a", "b"]), "offered_load must be a finite number >= 0, got ['a', 'b']"),
        (lambda: erlang_c_continuous(0, 0), "servers must be a finite number > 0, got 0"),
        (lambda: littles_law(-20, 1.5), "arrival_rate must be a finite number >= 0, got -20"),
        (
            lambda: MMcK(4.5, 1, 4, capacity=3),
            "capacity counts all places, the 4 servers' included: must be >= 4, got 3",
        ),
        (
            lambda: MMcK(np.array([1.0, 2.0]), 1, 4, 12),
            "arrival_rate must be one number: MMcK takes no arrays, build one per entry",
        ),
        (
            lambda: MD1(1, np.array([2.0])),
            "service_rate must be one number: MD1 takes no arrays, build one per entry",
        ),
        (lambda: ErlangA(100, 1, 100, 0), "patience_rate must be a finite number > 0, got 0"),
        (
            lambda: ErlangA(200, 1, 100, 1e-6),
            "patience_rate = 1e-06/s gives a queue of about 1e+08 states (limit 1e+07): "
            "customers outlast 1e+08 services; use MMc, or a larger patience_rate",
        ),
        (lambda: MM1(1, 2).wait_quantile(1), "probability must be in [0, 1), such as 0.95, got 1"),
        (lambda: MM1(1, 2).response_quantile(95), "probability must be in [0, 1), such as 0.95, got 95"),
        (lambda: MM1(1, 2).wait_tail(-1), "seconds must be a finite number >= 0, got -1"),
        (lambda: kingman_wait(1, 2, NAN, 1), "ca2 must be a finite number >= 0, got nan"),
        (lambda: allen_cunneen_wait(1, 2, 1, 1, -1), "cs2 must be a finite number >= 0, got -1"),
        (
            lambda: whitt_wait(np.array([1.0]), 2, 1, 1, 1),
            "arrival_rate must be one number: whitt_wait takes no arrays, build one per entry",
        ),
        (lambda: hayward_wait(1, 2, 1, 0), "peakedness must be a finite number > 0, got 0"),
        (lambda: square_root_staffing(10, 0), "wait_probability must be in (0, 1), such as 0.2, got 0"),
        (lambda: square_root_staffing(10, 1), "wait_probability must be in (0, 1), such as 0.2, got 1"),
    ],
)
def test_an_impossible_number_is_named_with_its_rule(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        call()
    assert str(refused.value) == message
    assert message.startswith(refused.value.parameter)


@pytest.mark.parametrize(
    "call",
    [
        lambda: MM1(10, 10),
        lambda: MD1(11, 10),
        lambda: MG1(10, 10, 0),
        lambda: MMc(40, 10, 4),
        lambda: erlang_c(4, 4),
        lambda: erlang_c_continuous(2.5, 2.5),
        lambda: kingman_wait(1, 1, 1, 1),
        lambda: allen_cunneen_wait(4, 1, 4, 1, 1),
        lambda: whitt_wait(5, 1, 4, 1, 1),
        lambda: hayward_wait(4, 1, 4, 2),
    ],
)
def test_a_queue_without_a_steady_state_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(UnstableQueue, match="utilization rho = ") as refused:
        call()
    assert refused.value.utilization >= 1


def test_an_unstable_queue_says_what_would_be_stable() -> None:
    with pytest.raises(UnstableQueue) as refused:
        MMc(50, 10, 4)
    assert str(refused.value) == (
        "unstable: utilization rho = 1.25 >= 1 (offered load 5 on 4 servers), the wait grows without bound; "
        "stable with 6 servers, or with an offered load (arrival rate x mean service time) below 4"
    )
    assert refused.value.servers_needed == 6
    assert MMc(50, 10, refused.value.servers_needed).mean_wait > 0


def test_the_unstable_entry_of_a_fleet_is_named() -> None:
    with pytest.raises(UnstableQueue, match=r"^unstable at index 1: utilization rho = 2 >= 1"):
        MMc(np.array([1.0, 20.0]), 10, 1)


def test_a_caller_may_catch_both_at_once_or_as_value_errors() -> None:
    assert issubclass(InvalidParameter, QueueingError)
    assert issubclass(UnstableQueue, QueueingError)
    assert issubclass(QueueingError, ValueError)
