"""Values from the literature and from the design, to all printed digits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from penstock.queueing import (
    MD1,
    MG1,
    MM1,
    ErlangA,
    MMc,
    MMcK,
    allen_cunneen_wait,
    erlang_b,
    erlang_c,
    halfin_whitt_beta,
    hayward_wait,
    kingman_wait,
    littles_law,
    square_root_staffing,
    whitt_wait,
)

VALUES: list[tuple[str, Any, str]] = [
    ("littles_law", littles_law(arrival_rate=20, mean_time=1.5), "30"),
    ("littles_law, positional", littles_law(20, 1.5), "30"),
    ("erlang_b(4, 3.2)", erlang_b(servers=4, offered_load=3.2), "0.2281449300"),
    ("erlang_c(4, 3.2)", erlang_c(4, 3.2), "0.5964324718"),
    ("erlang_c(10, 8)", erlang_c(servers=10, offered_load=8), "0.4091801508"),
    ("erlang_c(1000, 980)", erlang_c(1000, 980), "0.4122002924"),
    ("MM1 utilization", MM1(8, 10).utilization, "0.8"),
    ("MM1 mean wait", MM1(8, 10).mean_wait, "0.4"),
    ("MM1 mean response", MM1(8, 10).mean_response, "0.5"),
    ("MM1 response p99", MM1(8, 10).response_quantile(0.99), "2.302585"),
    ("MM1 response p99 over mean", MM1(8, 10).response_quantile(0.99) / MM1(8, 10).mean_response, "4.605"),
    ("MMc mean wait", MMc(32, 10, 4).mean_wait, "0.0745541"),
    ("MMc wait p95", MMc(32, 10, 4).wait_quantile(0.95), "0.3098679"),
    ("MMc wait p99", MMc(32, 10, 4).wait_quantile(0.99), "0.5110476"),
    ("MD1 P(W <= 0)", 1 - MD1(0.8, 1).wait_tail(0), "0.2"),
    ("MD1 P(W <= 1)", 1 - MD1(0.8, 1).wait_tail(1), "0.4451082"),
    ("MD1 P(W <= 3)", 1 - MD1(0.8, 1).wait_tail(3), "0.7620995"),
    ("MD1 P(W <= 5)", 1 - MD1(0.8, 1).wait_tail(5), "0.8995028"),
    ("MD1 P(W <= 10)", 1 - MD1(0.8, 1).wait_tail(10), "0.9883429"),
    ("MG1 scv 0", MG1(0.8, 1, scv=0).mean_wait, "2"),
    ("MG1 scv 1", MG1(0.8, 1, scv=1).mean_wait, "4"),
    ("MG1 scv 4", MG1(0.8, 1, scv=4).mean_wait, "10"),
    ("Allen-Cunneen", allen_cunneen_wait(3.2, 1, 4, 2, 0.5), "0.9319257"),
    ("Whitt 1993", whitt_wait(3.2, 1, 4, ca2=2, cs2=0.5), "0.9611501"),
    ("MMcK blocking", MMcK(4.5, 1, 4, capacity=12).blocking_probability, "0.1518625"),
    ("MMcK mean wait", MMcK(4.5, 1, 4, capacity=12).mean_wait, "1.1165652"),
    ("ErlangA abandonment", ErlangA(100, 1, 100, patience_rate=0.5).abandonment_probability, "0.0330302"),
    ("ErlangA wait probability", ErlangA(100, 1, 100, patience_rate=0.5).wait_probability, "0.5967031"),
    ("ErlangA mean wait", ErlangA(100, 1, 100, patience_rate=0.5).mean_wait, "0.0660603"),
    ("square-root staffing", square_root_staffing(100, wait_probability=0.2), "111"),
    ("Halfin-Whitt beta", halfin_whitt_beta(0.2), "1.0615163"),
    # Erlang's tables: 1 % grade of service on 10, 50 and 100 trunks carries 4.46, 37.90 and 84.06 Erlang.
    ("B, 10 trunks", erlang_b(10, 4.4612), "0.0100"),
    ("B, 50 trunks", erlang_b(50, 37.9014), "0.0100"),
    ("B, 100 trunks", erlang_b(100, 84.0642), "0.0100"),
    # Kleinrock I: M/M/2 at rho = 3/4 has C = 2 rho^2/(1 + rho) = 9/14; M/M/1/1 blocks rho/(1 + rho).
    ("C, two servers", erlang_c(2, 1.5), "0.6428571429"),
    ("MMcK one place", MMcK(3, 1, 1, capacity=1).blocking_probability, "0.75"),
    # M/M/1/K at rho = 1 is uniform over its K + 1 states.
    ("MMcK at rho 1", MMcK(1, 1, 1, capacity=9).blocking_probability, "0.1"),
    # Erlang A with patience as long as service is M/M/infinity cut in two: n is Poisson(a).
    ("ErlangA theta = mu", ErlangA(2, 1, 1, patience_rate=1).wait_probability, "0.8646647168"),  # 1 - e^-2
    # Kingman is exact for M/M/1.
    ("Kingman of M/M/1", kingman_wait(8, 10, 1, 1), "0.4"),
    ("Hayward of Poisson", hayward_wait(3.2, 1, 4, 1), "0.74554059"),
]


@pytest.mark.parametrize(("name", "value", "printed"), VALUES, ids=[row[0] for row in VALUES])
def test_a_published_value_is_met_to_all_printed_digits(name: str, value: float, printed: str) -> None:
    half_a_digit = float(Decimal(5).scaleb(int(Decimal(printed).as_tuple().exponent) - 1))
    assert abs(value - float(printed)) <= half_a_digit * 1.000001


def test_a_scalar_comes_back_as_a_plain_float() -> None:
    queue = MMc(32, 10, 4)
    for value in (
        erlang_b(4, 3.2),
        erlang_c(4, 3.2),
        queue.mean_wait,
        queue.wait_tail(1),
        queue.response_quantile(0.9),
    ):
        assert type(value) is float


@pytest.mark.parametrize(
    ("by_keyword", "by_position"),
    [
        (
            MMcK(arrival_rate=4.5, service_rate=1, servers=4, capacity=12),
            MMcK(4.5, 1, 4, 12),
        ),
        (
            ErlangA(arrival_rate=100, service_rate=1, servers=100, patience_rate=0.5),
            ErlangA(100, 1, 100, 0.5),
        ),
        (MMc(arrival_rate=32, service_rate=10, servers=4), MMc(32, 10, 4)),
        (MM1(arrival_rate=8, service_rate=10), MM1(8, 10)),
        (MD1(arrival_rate=8, service_rate=10), MD1(8, 10)),
        (MG1(arrival_rate=8, service_rate=10, scv=2), MG1(8, 10, 2)),
        (
            allen_cunneen_wait(arrival_rate=3.2, service_rate=1, servers=4, ca2=2, cs2=0.5),
            allen_cunneen_wait(3.2, 1, 4, 2, 0.5),
        ),
        (
            whitt_wait(arrival_rate=3.2, service_rate=1, servers=4, ca2=2, cs2=0.5),
            whitt_wait(3.2, 1, 4, 2, 0.5),
        ),
        (hayward_wait(arrival_rate=3.2, service_rate=1, servers=4, peakedness=2), hayward_wait(3.2, 1, 4, 2)),
        (kingman_wait(arrival_rate=8, service_rate=10, ca2=2, cs2=3), kingman_wait(8, 10, 2, 3)),
        (square_root_staffing(offered_load=100, wait_probability=0.2), square_root_staffing(100, 0.2)),
    ],
)
def test_arguments_may_be_named_or_positional(by_keyword: object, by_position: object) -> None:
    assert by_keyword == by_position
