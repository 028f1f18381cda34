"""Carry out a scale-down behind a gateway: close the victims, wait, remove exactly them.

Runs in the one-second task, between ticks; decided anew each time from the pods there are, so a pod
that turns unready, or a demand that comes back, changes the plan before anything is cut.
"""

from __future__ import annotations

import structlog

from penstock.controller.apply import ScaleWriter
from penstock.controller.gateway_state import GatewayState
from penstock.controller.pod_state import PodState
from penstock.controller.scaling_news import ScalingNews
from penstock.controller.service_state import Outcome, ServiceState
from penstock.kube.api import KubeError
from penstock.policy.drain import DrainMemory, PodLoad, Removal, decide_drain
from penstock.policy.gateway_load import STALE_SECONDS

log = structlog.get_logger(__name__)
# A victim stays closed so long after /scale: the ReplicaSet controller deletes it within seconds. One
# that is still there then was not taken, and serves again.
CLOSED_AFTER_SCALE_SECONDS = 20.0
# Victims that cannot be marked serve until it is tried again: closed they would be paid for and do nothing.
MARK_SECONDS, MARK_AGAIN_SECONDS = 30.0, 300.0

NO_SELECTOR = "the /scale of the target names no selector: its pods cannot be told from others"


class Drainer:
    """Lowers targets without cutting streams."""

    def __init__(self, scale: ScaleWriter, news: ScalingNews) -> None:
        self._scale, self._news = scale, news

    async def step(
        self,
        outcome: Outcome,
        state: ServiceState,
        selector: str,
        wanted: int,
        now: float,
        *,
        acknowledged: bool,
    ) -> bool:
        """Close, wait or remove; whether the target was lowered.

        `acknowledged`: every gateway has the endpoints that were published last, in all routes that lead to
        them. One on a busy node that has not may still send to a victim, which answers 503 once it is told to
        end; it is waited for no longer than a stream. Without a selector nobody can tell which pods are the
        target's: none is closed, and Kubernetes chooses.
        """
        gateway, pool, spec = state.gateway, outcome.seen.pool, outcome.spec
        assert pool is not None  # noqa: S101 - a scale-down has seen the pool
        if now < gateway.unmarked_until:
            return False
        if not selector:
            gateway.drain, gateway.overdue = DrainMemory(), ()
            if wanted >= pool.target or not await self._scale.write(outcome, state, wanted, now):
                return False
            log.warning(
                "scaled down without a drain",
                service=str(spec.key),
                reason="NoSelector",
                cause=NO_SELECTOR,
            )
            self._tell(outcome, wanted)
            return True
        try:
            pods = await self._scale.list_pods(spec, selector)
        except KubeError as error:
            log.warning("pods cannot be listed", service=str(spec.key), error=error.message)
            return False
        alive = [pod for pod in pods if not pod.terminating]
        removal = Removal.HIGHEST_ORDINAL if spec.target.kind == "StatefulSet" else Removal.BY_COST
        step, memory = decide_drain(
            pool.target, wanted, _loads(alive, gateway, now), gateway.drain, now, removal=removal
        )
        for name in memory.names - gateway.drain.names:
            log.info("draining", service=str(spec.key), pod=name, waiting_for=step.waiting_for)
        for name in gateway.drain.names - memory.names:
            log.info("reopened", service=str(spec.key), pod=name)
        gateway.drain, gateway.overdue = memory, step.overdue
        try:
            marked = await self._scale.mark(spec, alive, memory.names)
        except KubeError as error:
            _give_up(outcome, state, error.advised, now)
            return False
        if not marked and all(now - since >= MARK_SECONDS for _, since in memory.victims):
            _give_up(outcome, state, "the annotation does not stay: does a webhook remove it?", now)
            return False
        if marked and gateway.unmarked_until:
            gateway.unmarked_until, state.write_error = 0.0, None
        # With no victim there is nobody to wait for: the target was above the pods there are.
        if not (step.remove and marked and (acknowledged or step.overdue or memory.is_late(now))):
            return False
        if step.overdue:
            log.warning("streams outlive the drain deadline", service=str(spec.key), pods=step.overdue)
        if not await self._scale.write(outcome, state, step.replicas, now, victims=memory.names):
            return False
        gateway.leaving = dict.fromkeys(memory.names, now + CLOSED_AFTER_SCALE_SECONDS)
        gateway.drain = DrainMemory()
        self._tell(outcome, step.replicas)
        return True

    def _tell(self, outcome: Outcome, replicas: int) -> None:
        self._news.note(outcome, replicas)
        self._news.announce(outcome, replicas)


def _give_up(outcome: Outcome, state: ServiceState, cause: str, now: float) -> None:
    """Open the victims again, and say why: unmarked, other pods than those that were drained would go."""
    spec, gateway = outcome.spec, state.gateway
    log.warning("victims cannot be marked", service=str(spec.key), error=cause)
    message = f"the pods that {spec.target} is to lose cannot be annotated: {cause}"
    state.write_error = ("WriteRefused", message)
    gateway.drain, gateway.overdue = DrainMemory(), ()
    gateway.unmarked_until = now + MARK_AGAIN_SECONDS


def _loads(pods: list[PodState], gateway: GatewayState, now: float) -> list[PodLoad]:
    """Return the pods with their requests in flight; None where a gateway is silent."""
    readings = gateway.memory.readings
    latest = readings[-1] if readings and now - readings[-1].at <= STALE_SECONDS else None
    if latest is not None and latest.proxies < gateway.proxies:
        latest = None
    return [
        PodLoad(pod.name, pod.ready, None if latest is None else latest.by_pod.get(pod.name, 0.0))
        for pod in pods
    ]
