"""The flags of ``penstock engine`` arrive where their names say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from penstock.cli.engine import LONGEST_CONTEXT, engine
from penstock.engine.batch_loop import EngineLimits, StepWork
from penstock.engine.faults import Faults
from penstock.engine.process import ProcessSettings
from penstock.engine.server import EngineSettings
from penstock.model.profiles import profile_named

PROFILE = "llama-3.1-8b-h100"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EngineSettings, ProcessSettings]]:
    """What engines are started with, instead of engines."""
    calls: list[tuple[EngineSettings, ProcessSettings]] = []

    async def note(settings: EngineSettings, process: ProcessSettings, _: Callable[[str], None]) -> int:
        calls.append((settings, process))
        return 0

    monkeypatch.setattr("penstock.cli.engine.run_engine", note)
    monkeypatch.setattr("penstock.cli.engine.raise_file_limit", lambda: None)
    return calls


# No two values alike: one that went to a neighbour would be seen.
def test_each_flag_goes_where_its_name_says(started: list[tuple[EngineSettings, ProcessSettings]]):
    flags = (
        "--speed=0.5 --model-name=first --model-name=second --model-name=third "
        "--max-num-seqs=7 --max-model-len=333 --max-num-queued-reqs=44 "
        "--fail-ratio=0.25 --cut-ratio=0.125 --slow-factor=3 --slow-after=11s "
        "--stall-after=12s --hang-metrics=13s --crash-after=14s --seed=15 "
        "--host=127.0.0.9 --port=8123 --startup-delay=16s --drain-timeout=17s --parent-pid=18"
    )
    done = CliRunner().invoke(engine, [f"--profile={PROFILE}", *flags.split()])
    assert (done.exit_code, done.output) == (0, "")
    ((settings, process),) = started
    profile = profile_named(PROFILE).at_speed(2)  # each step takes twice as long
    assert settings.faults == Faults(
        fail_ratio=0.25,
        cut_ratio=0.125,
        slow_factor=3.0,
        slow_after_seconds=11.0,
        stall_after_seconds=12.0,
        hang_metrics_after_seconds=13.0,
        crash_after_seconds=14.0,
    )
    assert settings.limits == EngineLimits(
        slots=7,
        kv_capacity_tokens=int(profile.kv_capacity_tokens),
        step_budget_tokens=profile.step_token_budget,
    )
    assert settings.names == ("first", "second", "third")
    assert (settings.max_model_tokens, settings.max_in_flight, settings.seed) == (333, 44, 15)
    assert settings.frontend_seconds == profile.frontend_seconds
    work = StepWork(prefill_tokens=100, decoding=20, prefill_token_pairs=30_000.0, kv_tokens=40_000)
    assert settings.step_seconds(work) == profile.step_law.step_seconds(100, 20, 30_000.0, 40_000)
    assert process == ProcessSettings(
        host="127.0.0.9", port=8123, startup_seconds=16.0, drain_seconds=17.0, parent_pid=18
    )


def test_without_flags_the_profile_says_and_nothing_goes_wrong(
    started: list[tuple[EngineSettings, ProcessSettings]],
):
    done = CliRunner().invoke(engine, [f"--profile={PROFILE}"])
    assert (done.exit_code, done.output) == (0, "")
    ((settings, process),) = started
    profile = profile_named(PROFILE)
    assert settings.faults == Faults()
    assert settings.limits == EngineLimits(
        slots=profile.max_sequences,
        kv_capacity_tokens=int(profile.kv_capacity_tokens),
        step_budget_tokens=profile.step_token_budget,
    )
    assert settings.names == (PROFILE,)
    assert settings.max_model_tokens == LONGEST_CONTEXT
    assert (settings.max_in_flight, settings.seed) == (2048, 0)
    assert process == ProcessSettings()
