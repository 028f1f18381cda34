"""The fleet between two instants: arrivals, the balancer, the gateway's limit, steps, scrapes.

Between two arrivals replicas do not touch each other, so each is taken forward on its own: no queue of
events. At an arrival the balancer sees every replica as it is at that instant. Ties between replicas are
broken evenly, from a random start.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from penstock.sim.compiled import compiled
from penstock.sim.engine import begin_step, finish_step, queue_request
from penstock.sim.scenario import IntArray, Routing
from penstock.sim.series import KV_USAGE, RUNNING, WAITING
from penstock.sim.state import Gateway, Replicas, Requests, ScrapeLog

RANDOM, ROUND_ROBIN, POWER_OF_TWO, LEAST_REQUESTS, LEAST_TOKENS = range(5)
ROUTINGS = {
    Routing.RANDOM: RANDOM,
    Routing.ROUND_ROBIN: ROUND_ROBIN,
    Routing.POWER_OF_TWO: POWER_OF_TWO,
    Routing.LEAST_REQUESTS: LEAST_REQUESTS,
    Routing.LEAST_TOKENS: LEAST_TOKENS,
}
SERVED, FELL_BACK, SHED, UNAVAILABLE = range(4)  # RequestStatus


class Span(NamedTuple):
    """What holds while the fleet is taken forward."""

    ready: IntArray  # rows that get requests
    alive: IntArray  # rows that have work or may have: ready, draining, fallback
    fallback: IntArray  # rows
    routing: int
    places: int  # in flight per ready replica; 0: no limit
    fallback_places: int
    scrape_interval: float


@compiled
def advance(
    requests: Requests, replicas: Replicas, gateway: Gateway, log: ScrapeLog, span: Span, until: float
) -> None:
    """Take everything to `until`: arrivals before it come in, steps that end by it are over."""
    total = requests.arrival.size
    number = gateway.next_request[0]
    while number < total and requests.arrival[number] < until:
        now = requests.arrival[number]
        for row in span.alive:
            _catch_up(requests, replicas, log, row, now, span.scrape_interval)
        _arrive(requests, replicas, gateway, span, number, now)
        number += 1
    gateway.next_request[0] = number
    for row in span.alive:
        _catch_up(requests, replicas, log, row, until, span.scrape_interval)


@compiled
def _catch_up(
    requests: Requests, replicas: Replicas, log: ScrapeLog, row: int, now: float, scrape_interval: float
) -> None:
    """Finish the steps of a row that end by `now`, and scrape it when its turn comes."""
    while True:
        if replicas.next_scrape[row] < replicas.ends[row]:
            if replicas.next_scrape[row] > now:
                return
            _scrape(replicas, log, row)
            replicas.next_scrape[row] += scrape_interval
        else:
            end = replicas.ends[row]
            if end > now or end == np.inf:
                return
            finish_step(requests, replicas, row)
            begin_step(requests, replicas, row, end)


@compiled
def _scrape(replicas: Replicas, log: ScrapeLog, row: int) -> None:
    series = replicas.series[row]
    series[RUNNING] = replicas.running[row]
    series[WAITING] = replicas.present[row] - replicas.running[row]
    series[KV_USAGE] = 1 - replicas.free_blocks[row] / replicas.blocks[row]
    place = log.taken[0]
    log.at[place] = replicas.next_scrape[row]
    log.row[place] = row
    log.values[place] = series
    log.taken[0] = place + 1


@compiled
def _arrive(
    requests: Requests, replicas: Replicas, gateway: Gateway, span: Span, number: int, now: float
) -> None:
    gateway.offered[0] += 1
    if span.ready.size and _has_room(replicas, span.ready, span.places):
        row = _choose(requests, replicas, gateway, span.ready, span.routing, number)
        requests.status[number] = SERVED
    elif span.fallback.size and _has_room(replicas, span.fallback, span.fallback_places):
        row = _choose(requests, replicas, gateway, span.fallback, LEAST_REQUESTS, number)
        requests.status[number] = FELL_BACK
    else:
        requests.status[number] = SHED if span.ready.size else UNAVAILABLE
        return
    queue_request(requests, replicas, row, number)
    if replicas.ends[row] == np.inf:
        begin_step(requests, replicas, row, now)


@compiled
def _has_room(replicas: Replicas, rows: IntArray, places: int) -> bool:
    if places == 0:
        return True
    in_flight = 0
    for row in rows:
        in_flight += replicas.present[row]
    return in_flight < places * rows.size


@compiled
def _choose(
    requests: Requests, replicas: Replicas, gateway: Gateway, rows: IntArray, routing: int, number: int
) -> int:
    """Return the row that the balancer picks among `rows`."""
    size = rows.size
    if routing == ROUND_ROBIN:
        gateway.turn[0] += 1
        return int(rows[gateway.turn[0] % size])
    start = int(requests.chance[number, 0] * size)
    if routing == RANDOM or size == 1:
        return int(rows[start])
    if routing == POWER_OF_TWO:
        other = (start + 1 + int(requests.chance[number, 1] * (size - 1))) % size
        if replicas.present[rows[other]] < replicas.present[rows[start]]:
            return int(rows[other])
        return int(rows[start])
    load = replicas.outstanding if routing == LEAST_TOKENS else replicas.present
    best = rows[start]
    for offset in range(1, size):
        row = rows[(start + offset) % size]
        if load[row] < load[best]:
            best = row
    return int(best)
