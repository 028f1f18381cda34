"""A canary's memory in status: nothing is lost, and what somebody broke is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.canary import GATHERING, NEW, OTHER, CanaryWorld
from penstock.model.canary import (
    NO_CANARY_MEMORY,
    CanaryCommand,
    CanaryMemory,
    CanaryPhase,
    Ending,
    read_command,
)
from penstock.model.canary_verdict import CanaryReason
from penstock.model.decision import RolloutReason
from penstock.policy.canary_judge import JudgeMemory
from penstock.policy.canary_memory import memory_from_dict, memory_to_dict, restored_canary, stored_canary

times = st.none() | st.floats(0, 2e9, allow_nan=False)
texts = st.text(max_size=20)
endings = st.none() | st.builds(
    Ending, texts, st.sampled_from([*RolloutReason, *CanaryReason]), texts, st.booleans()
)
MEMORIES = st.builds(
    CanaryMemory,
    phase=st.sampled_from(CanaryPhase),
    since=times,
    revision=texts,
    against=texts,
    began=times,
    step=st.integers(0, 7),
    weight_percent=st.integers(0, 100),
    replicas=st.none() | st.integers(0, 10_000),
    ready=st.integers(0, 10_000),
    ever_routed=st.booleans(),
    testing_since=times,
    step_since=times,
    reached_at=times,
    requests_before=st.floats(0, 1e9, allow_nan=False),
    evidence_from=times,
    unready_since=times,
    resume_to=st.none() | st.sampled_from(CanaryPhase),
    shifted_at=times,
    handing_over=st.booleans(),
    by_command=st.booleans(),
    obeyed=st.none() | st.sampled_from(CanaryCommand),
    ending=endings,
    rejected=endings,
    rejected_before=st.lists(texts, max_size=9).map(tuple),
    promoted=texts,
)
REJECTED = Ending(NEW, CanaryReason.TTFT_REGRESSED, "31 % more requests above 250 ms")


@given(MEMORIES)
def test_nothing_is_lost(memory: CanaryMemory) -> None:
    assert memory_from_dict(json.loads(json.dumps(memory_to_dict(memory)))) == memory


def test_an_empty_memory_is_no_text() -> None:
    assert memory_to_dict(NO_CANARY_MEMORY) == {}
    assert stored_canary(NO_CANARY_MEMORY, JudgeMemory()) == ""
    memory, judge = restored_canary({})
    assert memory == NO_CANARY_MEMORY
    assert judge.to_status() == JudgeMemory().to_status()


def test_a_canary_in_the_middle_of_a_step_is_restored() -> None:
    world = CanaryWorld(verdict=GATHERING)
    world.ticks(10)
    text = stored_canary(world.memory, JudgeMemory())
    memory, judge = restored_canary({"canary": {"memory": text}})
    assert memory == world.memory
    assert judge.to_status() == JudgeMemory().to_status()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"canary": []}',
        '{"canary": {"phase": "Unheard"}}',
        '{"canary": {"phase": "Testing", "step": -1}}',
        '{"canary": {"phase": "Testing", "step": 1.5}}',
        '{"canary": {"phase": "Testing", "step": true}}',
        '{"canary": {"phase": "Testing", "since": NaN}}',
        '{"canary": {"phase": "Testing", "since": "yesterday"}}',
        '{"canary": {"phase": "Testing", "since": 1e300}}',
        '{"canary": {"revision": 7}}',
        '{"canary": {"handing_over": 1}}',
        '{"canary": {"rejected": {"reason": "Unheard"}}}',
        '{"canary": {"rejected": "so"}}',
        '{"canary": {"rejected_before": "so"}}',
        '{"canary": {"rejected_before": [7]}}',
    ],
)
def test_of_a_broken_memory_the_rejected_revision_is_kept(text: str) -> None:
    """The run begins anew at weight 0; what users were harmed by is not tried on them again."""
    shown: dict[str, Any] = {"memory": text, "rejectedRevision": NEW, "rejectedBecause": "31 % more"}
    shown["rejectedBefore"] = [OTHER]
    memory, judge = restored_canary({"canary": shown})
    assert memory.phase is CanaryPhase.IDLE
    assert memory.rejected == Ending(NEW, RolloutReason.REJECTED_REVISION, "31 % more")
    assert memory.rejected_before == (OTHER,)
    assert judge.to_status() == JudgeMemory().to_status()


def test_broken_evidence_is_gathered_anew_and_the_step_goes_on() -> None:
    world = CanaryWorld(verdict=GATHERING)
    world.ticks(10)
    stored = {"canary": memory_to_dict(world.memory), "judge": {"errors": "many"}}
    memory, judge = restored_canary({"canary": {"memory": json.dumps(stored)}})
    assert memory == world.memory
    assert judge.to_status() == JudgeMemory().to_status()


def test_a_field_of_another_version_is_ignored() -> None:
    stored = {"canary": memory_to_dict(CanaryMemory(rejected=REJECTED)) | {"moon": "full"}}
    memory, _ = restored_canary({"canary": {"memory": json.dumps(stored)}})
    assert memory.rejected == REJECTED


@pytest.mark.parametrize(
    ("annotation", "command"),
    [
        ("pause", CanaryCommand.PAUSE),
        (" Promote ", CanaryCommand.PROMOTE),
        ("abort", CanaryCommand.ABORT),
        ("resume", CanaryCommand.RESUME),
        ("", None),
    ],
)
def test_a_command(annotation: str, command: CanaryCommand | None) -> None:
    assert read_command({"serving.penstock.dev/canary": annotation}) == (command, "")


def test_an_unknown_command_is_told() -> None:
    assert read_command({"serving.penstock.dev/canary": "rollback"}) == (
        None,
        'annotation serving.penstock.dev/canary: "rollback" is none of pause, resume, abort, promote: '
        "correct or remove it",
    )
    assert read_command({}) == (None, "")
