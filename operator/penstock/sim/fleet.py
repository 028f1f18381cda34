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
from penstock.sim.state import Fleet, Records, Request

RANDOM, ROUND_ROBIN, POWER_OF_TWO, LEAST_REQUESTS, LEAST_TOKENS = range(5)
ROUTINGS = {
    Routing.RANDOM: RANDOM,
    Routing.ROUND_ROBIN: ROUND_ROBIN,
    Routing.POWER_OF_TWO: POWER_OF_TWO,
    Routing.LEAST_REQUESTS: LEAST_REQUESTS,
    Routing.LEAST_TOKENS: LEAST_TOKENS,
}
SERVED, FELL_BACK, SHED, UNAVAILABLE = range(4)  # RequestStatus
NO_LIMIT = -1


class Span(NamedTuple):
    """What holds while the fleet is taken forward."""

    ready: IntArray  # rows that get requests
    alive: IntArray  # rows that have work or may have: ready, draining, fallback
    fallback: IntArray  # rows
    routing: int
    places: int  # in flight in all ready rows together; NO_LIMIT: everything passes
    fallback_places: int  # in flight in the fallback
    planned_ratio: float  # of all requests, to the fallback while it has room
    scrape_interval: float


@compiled
def advance(fleet: Fleet, span: Span, until: float) -> None:
    """Take everything to `until`: arrivals before it come in, steps that end by it are over."""
    requests = fleet.requests
    number = fleet.next_request[0]
    while number < requests.size and requests[number].arrival < until:
        now = requests[number].arrival
        for row in span.alive:
            _catch_up(fleet, row, now, span.scrape_interval)
        _arrive(fleet, span, number)
        number += 1
    fleet.next_request[0] = number
    for row in span.alive:
        _catch_up(fleet, row, until, span.scrape_interval)


@compiled
def _catch_up(fleet: Fleet, row: int, now: float, scrape_interval: float) -> None:
    """Finish the steps of a row that end by `now`, and scrape it when its turn comes."""
    requests, replica, calendar = fleet.requests, fleet.replicas[row], fleet.leaving[row]
    while True:
        end = replica.ends
        if replica.next_scrape < end:
            if replica.next_scrape > now:
                return
            _scrape(fleet, row)
            replica.next_scrape += scrape_interval
        else:
            if end > now or end == np.inf:
                return
            finish_step(requests, replica, calendar)
            begin_step(requests, replica, calendar, end)


@compiled
def _scrape(fleet: Fleet, row: int) -> None:
    replica, place = fleet.replicas[row], fleet.scrapes[0]
    replica.series[RUNNING] = replica.running
    replica.series[WAITING] = replica.present - replica.running
    replica.series[KV_USAGE] = 1 - replica.free_blocks / replica.blocks
    fleet.scraped_at[place] = replica.next_scrape
    fleet.scraped_row[place] = row
    fleet.scraped[place] = replica.series
    fleet.scrapes[0] = place + 1


@compiled
def _arrive(fleet: Fleet, span: Span, number: int) -> None:
    request = fleet.requests[number]
    fleet.offered[0] += 1
    own = span.ready.size > 0 and _has_room(fleet.replicas, span.ready, span.places)
    away = not own or request.diverting < span.planned_ratio
    if away and span.fallback.size > 0 and _has_room(fleet.replicas, span.fallback, span.fallback_places):
        row = _choose(fleet, span.fallback, LEAST_REQUESTS, request)
        request.status = FELL_BACK
        fleet.spilled[0] += 1
    elif own:
        row = _choose(fleet, span.ready, span.routing, request)
        request.status = SERVED
    elif span.ready.size:
        request.status = SHED
        fleet.shed[0] += 1
        return
    else:
        request.status = UNAVAILABLE
        return
    replica = fleet.replicas[row]
    queue_request(fleet.requests, replica, number)
    if replica.ends == np.inf:
        begin_step(fleet.requests, replica, fleet.leaving[row], request.arrival)


@compiled
def _has_room(replicas: Records, rows: IntArray, places: int) -> bool:
    if places == NO_LIMIT:
        return True
    in_flight = 0
    for row in rows:
        in_flight += replicas[row].present
    return in_flight < places


@compiled
def _choose(fleet: Fleet, rows: IntArray, routing: int, request: Request) -> int:
    """Return the row that the balancer picks among `rows`."""
    size = rows.size
    if routing == ROUND_ROBIN:
        fleet.turn[0] += 1
        return int(rows[fleet.turn[0] % size])
    start = int(request.chance[0] * size)
    if routing == RANDOM or size == 1:
        return int(rows[start])
    by_tokens = routing == LEAST_TOKENS
    if routing == POWER_OF_TWO:
        other = rows[(start + 1 + int(request.chance[1] * (size - 1))) % size]
        lighter = _load(fleet.replicas, other, by_tokens) < _load(fleet.replicas, rows[start], by_tokens)
        return int(other if lighter else rows[start])
    best = rows[start]
    least = _load(fleet.replicas, best, by_tokens)
    for offset in range(1, size):
        row = rows[(start + offset) % size]
        load = _load(fleet.replicas, row, by_tokens)
        if load < least:
            best, least = row, load
    return int(best)


@compiled
def _load(replicas: Records, row: int, by_tokens: bool) -> int:  # noqa: FBT001 - chosen once a request
    return int(replicas[row].outstanding if by_tokens else replicas[row].present)
