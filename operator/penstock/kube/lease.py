"""Leader election by a Lease (coordination.k8s.io/v1), with client-go's timing of 15, 10 and 2 s.

A leader renews every 2 s and gives up 10 s after the start of the last renewal that succeeded. A
standby takes over once it has seen the same record for 15 s of its own monotonic clock. Times in the
record are never read, only compared for being different, so skewed wall clocks change nothing; only
clocks whose rates differ by more than 15/10 would let two lead. Every write carries the
resourceVersion that was read: of two takers, the API server refuses one.

    standby --record unchanged for 15 s, or released--> leader --10 s without renewal--> LeaseLost
Source: k8s.io/client-go/tools/leaderelection.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

import structlog

from penstock.kube.api import LEASES, Conflict, KubeApi, KubeError, NotFound, Object
from penstock.kube.micro_time import micro_time, utc_now

log = structlog.get_logger(__name__)
Role = Literal["leader", "standby"]
# Standbys that were refused together must not come back together; client-go's JitterFactor.
STANDBY_JITTER = 1.2
LEADER_JITTER = 0.1
# A standby looks every 2 to 5 s: one without an answer for so long could not take over.
SILENCE_SECONDS = 60.0
NOT_REACHED = "the API server was not reached yet"


class LeaseLost(Exception):  # noqa: N818 - what happened, as client-go calls it
    """Another replica leads by now, or may: end the process."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """The three times of an election, in seconds."""

    duration_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_period_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration_seconds > self.renew_deadline_seconds > 2 * self.retry_period_seconds > 0:
            given = (
                f"{self.duration_seconds:g}, {self.renew_deadline_seconds:g}, {self.retry_period_seconds:g}"
            )
            raise ValueError(
                "a Lease needs duration > renew deadline > 2 retry periods > 0, such as 15, 10 and 2 s; "
                f"got {given}"
            )

    @property
    def attempt_seconds(self) -> float:
        """Return the bound of one attempt: after a hanging one there must be time for another."""
        return self.renew_deadline_seconds / 2


class LeaseElector:
    """One replica's part in the election. `identity` must be unique to the pod.

    ``await acquire()``, then ``await keep()`` beside the work, and ``await release()`` at the end in
    any case. A process that starts again under the same identity resumes its Lease at once.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: LeaseTiming | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall_clock: Callable[[], datetime] = utc_now,
        rng: random.Random | None = None,
    ) -> None:
        if not identity:
            raise ValueError("an elector needs an identity, such as the pod's name")
        self.identity = identity
        self._api = api
        self._namespace = namespace
        self._name = name
        self._timing = timing or LeaseTiming()
        self._monotonic = monotonic
        self._sleep = sleep
        self._wall_clock = wall_clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._lead_until = -math.inf
        self._seen: Object | None = None  # the last record seen, and when it was seen first
        self._seen_since = -math.inf
        self._contact = monotonic()
        self._reached = False
        self._tried = False
        self._problem = ""

    @property
    def role(self) -> Role:
        """Return ``leader`` only while nobody else can lead, also if `keep` was held up in between."""
        return "leader" if self._monotonic() < self._lead_until else "standby"

    @property
    def holder(self) -> str:
        """Return the identity in the record last seen; empty if there was none."""
        return _holder(self._seen)

    def last_contact_seconds(self) -> float:
        """Return the seconds since the API server last answered about the Lease, or since the start."""
        return self._monotonic() - self._contact

    def unreachable(self) -> str:
        """Return why this replica could not take over: the API server does not answer about the Lease."""
        cause = f": {self._problem}" if self._problem else ""
        if not self._reached:
            return f"{NOT_REACHED}{cause}"
        silent = self.last_contact_seconds()
        if silent <= SILENCE_SECONDS:
            return ""
        return f"the API server has not answered about the Lease for {silent:.0f} s{cause}"

    async def acquire(self) -> None:
        """Return once this replica leads, however long that takes. Failing calls are tried again."""
        while not await self._attempt(self._timing.attempt_seconds):
            jitter = self._rng.uniform(0, STANDBY_JITTER)
            await self._sleep(self._timing.retry_period_seconds * (1 + jitter))
        log.info("lease acquired", identity=self.identity, lease=self._name)

    async def keep(self) -> NoReturn:
        """Renew until that fails for the renew deadline or somebody else holds it: `LeaseLost`."""
        while True:
            jitter = self._rng.uniform(-LEADER_JITTER, LEADER_JITTER)
            period = self._timing.retry_period_seconds * (1 + jitter)
            await self._sleep(max(0.0, min(period, self._lead_until - self._monotonic())))
            left = self._lead_until - self._monotonic()
            if left <= 0:
                cause = self._problem or "this process was held up"
                self._lead_until = -math.inf
                deadline = self._timing.renew_deadline_seconds
                raise LeaseLost(f"the Lease {self._name} was not renewed for {deadline:g} s: {cause}")
            renewed = await self._attempt(min(left, self._timing.attempt_seconds))
            if not renewed and self.holder not in ("", self.identity):
                self._lead_until = -math.inf
                raise LeaseLost(f"{self.holder} holds the Lease {self._name}")

    async def release(self) -> None:
        """Give the Lease away, so that a standby leads at its next look instead of after 15 s.

        Nothing is raised: without it the Lease runs out by itself.
        """
        self._lead_until = -math.inf
        if not self._tried:
            return
        try:
            async with asyncio.timeout(self._timing.attempt_seconds):
                # Read first: a write that was cut off half-way may have made us the holder.
                lease = await self._api.get(LEASES, self._namespace, self._name)
                if _holder(lease) == self.identity:
                    record = {**lease["spec"], "holderIdentity": "", "renewTime": self._now()}
                    await self._write(lease, record)
                    log.info("lease released", identity=self.identity, lease=self._name)
        except (KubeError, TimeoutError) as error:
            log.warning("lease not released", lease=self._name, problem=_say(error))

    async def _attempt(self, limit_seconds: float) -> bool:
        """Take or renew the Lease; False if it is somebody else's or a call failed."""
        self._tried = True
        # Counted from before the request: others count from after they have seen its result.
        started = self._monotonic()
        try:
            async with asyncio.timeout(limit_seconds):
                held = await self._take_or_renew()
            self._problem = ""
        except Conflict:
            # Somebody wrote in between. The answer is news all the same; look again next time.
            held, self._problem = False, ""
            self._heard()
        except (KubeError, TimeoutError) as error:
            held = False
            problem = _say(error)
            if problem != self._problem:
                log.warning("lease cannot be reached", lease=self._name, problem=problem)
            self._problem = problem
        if held:
            self._lead_until = started + self._timing.renew_deadline_seconds
        return held

    async def _take_or_renew(self) -> bool:
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
        except NotFound:
            self._heard()
            # Deleted by hand while its holder still leads: that one has until its deadline.
            return False if self._others_may_lead() else await self._create()
        self._observe(lease)
        if self._others_may_lead():
            return False
        spec = lease.get("spec") or {}
        if _holder(lease) == self.identity:
            record = {**spec, "renewTime": self._now(), "leaseDurationSeconds": self._timing.duration_seconds}
        else:
            record = {**spec, **self._new_record(_transitions(lease) + 1)}
        self._observe(await self._write(lease, record))
        return True

    async def _create(self) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": self._new_record(0),
        }
        self._observe(await self._api.create(LEASES, self._namespace, body))
        return True

    async def _write(self, lease: Object, record: Object) -> Object:
        # The object as it was read, so that labels and owners of others survive.
        return await self._api.replace(LEASES, self._namespace, self._name, {**lease, "spec": record})

    def _new_record(self, transitions: int) -> dict[str, Any]:
        now = self._now()
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._timing.duration_seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _observe(self, lease: Object) -> None:
        self._heard()
        before, self._seen = self._seen, lease
        if before is None or before.get("spec") != lease.get("spec"):
            self._seen_since = self._monotonic()
        given = _given_duration(lease)
        if given and given != _given_duration(before) and _duration_seconds(lease) is None:
            log.warning(
                "the duration in the Lease cannot be read",
                lease=self._name,
                duration=given,
                taken_for_seconds=self._timing.duration_seconds,
            )
        if _holder(before) != _holder(lease):
            log.info("lease holder", lease=self._name, holder=_holder(lease), identity=self.identity)

    def _heard(self) -> None:
        self._contact = self._monotonic()
        self._reached = True

    def _others_may_lead(self) -> bool:
        """Return whether the record last seen still gives somebody else the lead.

        The record's own duration counts: its holder may go by a longer one than ours. One that cannot be
        read is taken for ours.
        """
        if self.holder in ("", self.identity):
            return False
        duration = _duration_seconds(self._seen) or self._timing.duration_seconds
        return self._monotonic() < self._seen_since + duration

    def _now(self) -> str:
        return micro_time(self._wall_clock())


def _holder(lease: Object | None) -> str:
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def _given_duration(lease: Object | None) -> Any:
    return ((lease or {}).get("spec") or {}).get("leaseDurationSeconds")


def _duration_seconds(lease: Object | None) -> float | None:
    """Return the duration in a record; None where somebody wrote none, or what cannot be one."""
    try:
        seconds = float(_given_duration(lease))
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < math.inf else None


def _transitions(lease: Object) -> int:
    """Return how often the holder has changed; 0 where what is written cannot be a count."""
    try:
        return int((lease.get("spec") or {}).get("leaseTransitions") or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _say(error: Exception) -> str:
    return error.message if isinstance(error, KubeError) else "the API server did not answer in time"
