"""One loop for the whole fleet: collect, then for each service observe, estimate, decide, set the target.

Ticks follow absolute times. A tick that takes longer than its interval delays the next one, and says
so; two ticks never overlap, so a service has one writer at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import structlog

from penstock.controller.apply import ScaleWriter
from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.cache import NO_PODS, KnownService
from penstock.controller.canaries import Canaries
from penstock.controller.decision_counts import count_changes, count_verdict
from penstock.controller.defects import note_defect
from penstock.controller.garbage import GarbageCollection
from penstock.controller.past_rates import PastRates
from penstock.controller.pod_state import NONE_STUCK, stuck_pods
from penstock.controller.recording import Recorder, Seen
from penstock.controller.restore import restored_budget, restored_memory
from penstock.controller.revision_objects import Arm, arm_service_name
from penstock.controller.sample import sample_of
from penstock.controller.scalable_targets import ScalableTargets
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.selectors import ambiguity
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.show import StatusWriter
from penstock.controller.status_outbox import StatusOutbox
from penstock.controller.step import StepContext, prepare, replicas_to_write, step
from penstock.controller.tick_writes import TickWrites, Writers
from penstock.controller.work_ahead import work_ahead
from penstock.controller.workloads import Workload
from penstock.kube.api import KubeError
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.identity import Watched
from penstock.model.canary_verdict import Verdict
from penstock.model.spec import ServiceKey, ServiceSpec
from penstock.telemetry.fleet_metrics import ServiceSample
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
# The event loop serves health, Lease and watches too: a slice of 200 services is some 20 ms.
SLICE = 200
LISTS_AT_ONCE = 16
# Replicas that stay unready this many ticks are looked at, pod by pod.
LOOK_AT_PODS_AFTER_TICKS = 2


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What the loop works with."""

    context: StepContext
    collector: Collector
    scale: ScaleWriter
    status: StatusWriter
    metrics: OperatorMetrics
    pods_identify: bool  # series are joined through EndpointSlices
    gateways_serve: bool = False  # this process tells gateways whom to route to
    canaries: Canaries | None = None
    other_targets: ScalableTargets | None = None
    recorder: Recorder | None = None


class ControlLoop:
    """Ticks until it is cancelled."""

    def __init__(
        self,
        parts: LoopParts,
        states: dict[ServiceKey, ServiceState] | None = None,
        *,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
        gap: BetweenTicks | None = None,
    ) -> None:
        self._parts = parts
        self._dry_run = dry_run
        self._clock = clock
        # Shared with the task that tells gateways what was decided here.
        self.cache = parts.context.cache
        self.states: dict[ServiceKey, ServiceState] = {} if states is None else states
        self.gap = gap or BetweenTicks()
        window_seconds = parts.context.times.rate_window_seconds
        self.statuses = StatusOutbox(parts.status, self.gap, window_seconds=window_seconds)
        self._past = PastRates(parts.collector, parts.context.times)
        self.succeeded_at: float | None = None  # monotonic, as the next one
        self.targets_set_at = 0.0  # in the last tick

    async def run(self) -> None:
        """Tick at every interval; a failed tick is logged, counted and followed by the next."""
        interval, metrics = self._parts.context.times.tick_seconds, self._parts.metrics
        due, garbage = time.monotonic(), GarbageCollection()
        while True:
            began, began_cpu = time.monotonic(), time.process_time()
            backlog = self.statuses.waiting
            metrics.statuses_waiting.set(backlog)
            metrics.tick_lag_seconds.set(max(0.0, began - due))
            try:
                with self.gap.tick():
                    await self.tick(self._clock())
                metrics.ticks.labels("ok").inc()
                self.succeeded_at = time.monotonic()
            except Exception:
                # The loop must outlive a defect; the failed tick is counted and health tells
                # when no tick succeeds any more.
                metrics.ticks.labels("failed").inc()
                log.exception("a tick failed")
            seconds = time.monotonic() - began
            targets = max(0.0, self.targets_set_at - began)
            metrics.tick_seconds.observe(seconds)
            metrics.targets_seconds.observe(targets)
            awaiting_past = sum(each.awaits_past for each in self.states.values())
            log.debug(
                "tick",
                seconds=round(seconds, 4),
                targets_seconds=round(targets, 4),
                cpu_seconds=round(time.process_time() - began_cpu, 4),
                services=len(self.states),
                awaiting_past=awaiting_past,
            )
            garbage.between_ticks(backlog=backlog + awaiting_past)
            due = max(due + interval, time.monotonic() - interval)
            if (gap := due - time.monotonic()) > 0:
                await work_ahead(self.states.values(), self._clock() + gap, self._parts.context.times)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def tick(self, now: float) -> None:
        """Look at every service once and set the targets that moved; what is to be shown follows behind."""
        known = list(self.cache.services.values())
        if self._parts.other_targets is not None:
            await self._parts.other_targets.look(known, self.states)
        failed = set[ServiceKey]()  # by a defect that they alone meet: their targets stay as they are
        states = await self._follow(known, now, failed)
        if self._parts.context.fallbacks is not None:
            self._parts.context.fallbacks.begin_tick()
        parts, collecting = self._parts, list[Watched]()
        for each, state in zip(known, states, strict=True):
            try:
                if (watched := self._watched(each, state)) is not None:
                    collecting.append(watched)
            except Exception as error:  # noqa: BLE001 - see `_defect`
                self._defect(error, each.key, state, failed)
        looking = asyncio.sleep(0) if parts.canaries is None else parts.canaries.look(now)
        loads, _ = await asyncio.gather(parts.collector.collect(collecting, at=now), looking)
        writers = Writers(
            parts.scale,
            ScalingNews(parts.status, parts.metrics),
            drains=parts.gateways_serve,
            dry_run=self._dry_run,
        )
        writes, recorded = TickWrites(writers, now), list[Seen]()
        try:
            for index, (each, state) in enumerate(zip(known, states, strict=True)):
                if state.awaits_past or each.spec is None or each.key in failed:
                    continue
                before, verdict = state.outcome, _verdict(state)
                try:
                    prepare(self._parts.context, each, state)
                    remembered = state.memory  # a new profile has taken the old one's speed out of it
                    outcome = step(self._parts.context, each.spec, state, loads.get(each.key), now)
                except Exception as error:  # noqa: BLE001 - see `_defect`
                    self._defect(error, each.key, state, failed)
                    continue
                state.defect = ""
                count_changes(parts.metrics, before, outcome)
                count_verdict(parts.metrics, verdict, _verdict(state))
                if parts.recorder is not None:
                    recorded.append(Seen(remembered, state.memory, state.solved, outcome))
                if (replicas := replicas_to_write(outcome, state)) is not None:
                    writes.begin(state, outcome, replicas, self._version(each.spec, state))
                else:
                    state.write_error = None  # of a write that nobody wants any more
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            if parts.canaries is not None:
                await parts.canaries.act(now)
        finally:
            # Also in a tick that has failed half-way: what was begun ends before the next one.
            if parts.recorder is not None:
                parts.recorder.take(recorded)
            await writes.targets_set()
            self.targets_set_at = time.monotonic()
            self.statuses.put(zip(known, states, strict=True), now)
        await self._look_at_pods(now)
        self._parts.metrics.tables_pending.set(self._parts.context.tables.pending)

    def samples(self) -> Iterator[ServiceSample]:
        """Yield what the metrics show of each service."""
        for state in list(self.states.values()):
            if state.outcome is not None:
                yield sample_of(state.outcome, state)

    def _defect(
        self, error: Exception, key: ServiceKey, state: ServiceState, failed: set[ServiceKey]
    ) -> None:
        """Make a condition, a metric and a log line of it, and leave the service out of this tick."""
        event = "a service could not be decided"
        state.defect = note_defect(error, state.defect, event=event, key=key, metrics=self._parts.metrics)
        if state.memory.look is not None:
            state.memory = replace(state.memory, look=None)  # or it would fail for ever if that is why
        failed.add(key)

    async def _follow(
        self, known: list[KnownService], now: float, failed: set[ServiceKey]
    ) -> list[ServiceState]:
        """Begin states for new services, with what survives a restart; drop those of deleted ones.

        A service with revisions of its own is replaced in `known` by what its stable one makes of it. Adds to
        `failed` those of which a defect prevents that.
        """
        states, waiting = [], []
        canaries = self._parts.canaries
        if canaries is not None:
            canaries.begin_tick()
        for index, each in enumerate(known):
            state = self.states.get(each.key)
            if state is None or state.uid != each.uid:
                state = self.states[each.key] = self._begun(each, now)
            if canaries is not None:
                try:
                    known[index] = each = canaries.begin(each, state, now)
                except Exception as error:  # noqa: BLE001 - see `_defect`
                    self._defect(error, each.key, state, failed)
            states.append(state)
            if state.awaits_past:
                waiting.append((each.key, state))
        if len(self.states) > len(known):
            for key in self.states.keys() - {each.key for each in known}:
                del self.states[key]
                if canaries is not None:
                    canaries.forget(key)
        if waiting:
            found = [(self._watched(self.cache.services[key], state), state) for key, state in waiting]
            await self._past.learn(found, now)
        return states

    def _begun(self, known: KnownService, now: float) -> ServiceState:
        """Return the state of a service that is new to this process, with what its status remembers."""
        # What is there was written by our predecessor, perhaps a moment ago.
        state = ServiceState(uid=known.uid, written_status_at=now if known.status else 0.0, awaits_past=True)
        try:
            state.memory = restored_memory(known.status, now)
            state.budget = restored_budget(known.status)
        except Exception:
            # Anybody may have written it. This service learns anew, and the others do not wait for that.
            log.exception("what a status remembers cannot be read", service=str(known.key))
        return state

    def _watched(self, known: KnownService, state: ServiceState) -> Watched | None:
        """Return where a service's series are; None while its target is unknown or refused."""
        spec = known.spec
        if spec is None:
            return None
        if self._workload(spec) is None:
            state.ambiguous = ""  # or it would hide that the target is gone
            return None
        found = self.cache.services_in_front(spec)
        state.ambiguous = "" if len(found) == 1 else ambiguity(spec, found)
        if len(found) != 1:
            return None
        name = found[0]
        pods = self.cache.pods_behind(spec.key.namespace, name) if self._parts.pods_identify else NO_PODS
        if pods and spec.canary is not None:
            pods = self._without_canary(spec, pods)
        before = state.watched
        if before is not None and before.pods is not pods and before.pods == pods:
            pods = before.pods
        if before is None or before.spec is not spec or before.pods is not pods or before.series_name != name:
            # Else the very same one, by which the collector sees that its plan still holds.
            state.watched = Watched(spec, pods=pods, series_name=name)
        return state.watched

    def _without_canary(self, spec: ServiceSpec, pods: frozenset[str]) -> frozenset[str]:
        """Return the pods behind a target's Service without an adopted canary's, which it may select too."""
        if spec.canary is None or spec.canary.target is None:
            return pods
        return pods - self.cache.pods_behind(spec.key.namespace, arm_service_name(spec.key, Arm.CANARY))

    def _workload(self, spec: ServiceSpec) -> Workload | None:
        return self.cache.workload(spec.key.namespace, spec.target)

    def _version(self, spec: ServiceSpec, state: ServiceState) -> str:
        """Return the newest version of a service's target that we wrote or the watch has shown."""
        if state.written is not None:
            return state.written_version
        workload = self._workload(spec)
        return "" if workload is None else workload.resource_version

    async def _look_at_pods(self, now: float) -> None:
        """List the pods of services whose replicas stay unready, to tell starting from stuck."""
        after = LOOK_AT_PODS_AFTER_TICKS * self._parts.context.times.tick_seconds
        due: list[tuple[ServiceState, Outcome]] = []
        for state in self.states.values():
            outcome = state.outcome
            pool = outcome.seen.pool if outcome else None
            if outcome is None or pool is None or pool.ready >= pool.target:
                state.unready_since, state.stuck = None, NONE_STUCK
                continue
            if state.unready_since is None:
                state.unready_since = now
            if now - max(state.unready_since, state.pods_listed_at) >= after:
                state.pods_listed_at = now
                due.append((state, outcome))
        gate = asyncio.Semaphore(LISTS_AT_ONCE)
        await asyncio.gather(*(self._list_pods(*each, gate) for each in due))

    async def _list_pods(self, state: ServiceState, outcome: Outcome, gate: asyncio.Semaphore) -> None:
        workload = self._workload(outcome.spec)
        if workload is None or not workload.label_selector:
            return
        try:
            async with gate:
                pods = await self._parts.scale.list_pods(outcome.spec, workload.label_selector)
                state.stuck = stuck_pods(pods)
        except KubeError as error:
            log.warning("pods cannot be listed", service=str(outcome.spec.key), error=error.message)


def _verdict(state: ServiceState) -> Verdict | None:
    return None if state.canary is None else state.canary.evidence.verdict
