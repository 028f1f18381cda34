"""Replicas that take part in an election on fake time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.small_kube_api import SmallKubeApi, Store
from penstock.kube.api import Object
from penstock.kube.lease import LeaseElector

KEY = ("leases", "ops", "penstock")
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def now() -> float:
    return asyncio.get_running_loop().time()


def elector(
    api: SmallKubeApi,
    identity: str,
    *,
    clock_ahead: timedelta = timedelta(),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> LeaseElector:
    started = now()
    return LeaseElector(
        api,
        "ops",
        "penstock",
        identity,
        monotonic=now,
        sleep=sleep,
        wall_clock=lambda: NOON + clock_ahead + timedelta(seconds=now() - started),
        rng=random.Random(identity),
    )


async def lead(candidate: LeaseElector) -> None:
    await candidate.acquire()
    await candidate.keep()


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def spec(store: Store) -> Any:
    return store.objects[KEY]["spec"]


def lease(**fields: object) -> Object:
    return {"metadata": {"name": "penstock", "labels": {"kept": "yes"}}, "spec": fields}
