"""What of a service's state is about its target, and goes when it gets another one."""

from __future__ import annotations

from dataclasses import replace

from penstock.controller.pod_state import NONE_STUCK
from penstock.controller.service_state import ServiceState
from penstock.policy.drain import DrainMemory


def leave_target(state: ServiceState) -> None:
    """Begin with another target: its count is no foreign hand's work, and none of its pods just started."""
    state.written, state.written_to, state.written_version = None, None, ""
    state.write_error = None
    state.stuck, state.unready_since = NONE_STUCK, None
    state.gateway.drain, state.gateway.leaving = DrainMemory(), {}
    lead = replace(state.memory.lead, pending=(), target=None, ready=0)
    replicas = replace(state.memory.replicas, in_force=None)
    state.memory = replace(state.memory, lead=lead, replicas=replicas)
