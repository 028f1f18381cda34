"""Mean waits of queues with general arrivals and service, from two moments of each.

    Kingman (one server)     rho/(1-rho) (ca2 + cs2)/2 S          exact in heavy traffic
    Allen-Cunneen            E[W of M/M/c] (ca2 + cs2)/2
    Whitt 1993               phi(rho, ca2, cs2, c) x Allen-Cunneen
    Hayward                  Erlang C at (c/z, a/z) for arrivals of peakedness z

ca2, cs2: squared coefficients of variation of the gaps between arrivals and of the service time.
Good for few servers or rho >= 0.9: at 64 servers and rho 0.7 Allen-Cunneen errs by -89 to +95 %
against simulation; Hayward is better for bursts on many servers (+12 % at rho 0.8).
Sources: Kingman 1961; Allen 1978; Whitt, POM 2 (1993) 114; Fredericks, BSTJ 59 (1980).
"""

from __future__ import annotations

import math

from penstock.queueing.domain import (
    FloatOrArray,
    Numbers,
    non_negative,
    one,
    positive,
    require_stable,
    same_kind,
    whole_number,
)
from penstock.queueing.erlang import erlang_c_continuous
from penstock.queueing.many_server import MMc


def kingman_wait(arrival_rate: Numbers, service_rate: Numbers, ca2: Numbers, cs2: Numbers) -> FloatOrArray:
    """Return the approximate mean seconds in queue of G/G/1. Arrays broadcast.

    Rates per second. Raises UnstableQueue at rho >= 1, InvalidParameter. Source: Kingman 1961.
    """
    rate = positive("service_rate", service_rate)
    rho = non_negative("arrival_rate", arrival_rate) / rate
    require_stable(rho, 1.0)
    return same_kind(rho / (1 - rho) * _mean_scv(ca2, cs2) / rate)


def allen_cunneen_wait(
    arrival_rate: FloatOrArray, service_rate: FloatOrArray, servers: FloatOrArray, ca2: Numbers, cs2: Numbers
) -> FloatOrArray:
    """Return the approximate mean seconds in queue of G/G/c. Arrays broadcast; rates per second, per server.

    Raises UnstableQueue, InvalidParameter. Source: Allen, Probability, Statistics and Queueing (1978).
    """
    return same_kind(MMc(arrival_rate, service_rate, servers).mean_wait * _mean_scv(ca2, cs2))


def whitt_wait(arrival_rate: float, service_rate: float, servers: int, ca2: float, cs2: float) -> float:
    """Return Whitt's approximate mean seconds in queue of GI/G/c (one queue). Rates per second, per server.

    Raises UnstableQueue, InvalidParameter. Source: Whitt, POM 2 (1993), equations 2.14 to 2.25.
    """
    arrival_scv = float(non_negative("ca2", one("whitt_wait", "ca2", ca2)))
    service_scv = float(non_negative("cs2", one("whitt_wait", "cs2", cs2)))
    for name, value in (("arrival_rate", arrival_rate), ("service_rate", service_rate), ("servers", servers)):
        one("whitt_wait", name, value)
    queue = MMc(arrival_rate, service_rate, servers)
    rho = float(queue.utilization)
    if arrival_scv + service_scv == 0 or rho == 0:
        return 0.0
    correction = _whitt_correction(rho, arrival_scv, service_scv, servers)
    return correction * float(queue.mean_wait) * (arrival_scv + service_scv) / 2


def hayward_wait(arrival_rate: float, service_rate: float, servers: int, peakedness: float) -> float:
    """Return the approximate mean seconds in queue of bursty arrivals on many servers (one queue).

    `peakedness` z is the variance over the mean of the number in an infinite-server group: 1 for Poisson,
    about 1 + (index of dispersion - 1)/2. Errs high at low load (+34 to +140 % at rho 0.6 to 0.7).
    Raises UnstableQueue, InvalidParameter. Source: Fredericks 1980.
    """
    z = float(positive("peakedness", one("hayward_wait", "peakedness", peakedness)))
    rate = float(positive("service_rate", one("hayward_wait", "service_rate", service_rate)))
    count = float(whole_number("servers", one("hayward_wait", "servers", servers)))
    arrivals = float(non_negative("arrival_rate", one("hayward_wait", "arrival_rate", arrival_rate)))
    load = arrivals / rate
    require_stable(load, count)
    return erlang_c_continuous(count / z, load / z) * z / (count - load) / rate


def _mean_scv(ca2: Numbers, cs2: Numbers) -> FloatOrArray:
    return (non_negative("ca2", ca2) + non_negative("cs2", cs2)) / 2


def _whitt_correction(rho: float, ca2: float, cs2: float, servers: int) -> float:
    gamma = min(0.24, (1 - rho) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * servers * rho))
    phi_1 = 1 + gamma  # D/M/c
    phi_3 = (1 - 4 * gamma) * math.exp(-2 * (1 - rho) / (3 * rho))  # M/D/c, GI/D/c
    phi_4 = min(1.0, (phi_1 + phi_3) / 2)
    mean = (ca2 + cs2) / 2
    psi = 1.0 if mean >= 1 else phi_4 ** (2 * (1 - mean))
    if ca2 >= cs2:
        return (4 * (ca2 - cs2) * phi_1 + cs2 * psi) / (4 * ca2 - 3 * cs2)
    return ((cs2 - ca2) * phi_3 + (cs2 + 3 * ca2) * psi) / (2 * (ca2 + cs2))
