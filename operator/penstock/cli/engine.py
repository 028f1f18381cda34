"""``penstock engine``: one stand-in replica."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import click

from penstock.cli.duration import DURATION
from penstock.cli.positive_number import PositiveNumber
from penstock.engine.batch_loop import EngineLimits, StepWork
from penstock.engine.faults import Faults
from penstock.engine.open_files import raise_file_limit
from penstock.engine.process import ProcessSettings, run_engine
from penstock.engine.server import EngineSettings
from penstock.model.profiles import profile_named
from penstock.queueing.step_law import StepLaw

LONGEST_CONTEXT = 131_072  # of the models in the profiles


@click.command(
    epilog="""\b
Examples:
  penstock engine --profile llama-3.1-8b-h100 --port 8000
  penstock engine --profile llama-3.1-8b-h100 --speed 0.2 --port 8001 --startup-delay 20s
  penstock engine --profile llama-3.1-8b-l40s --slow-factor 3 --slow-after 60s --fail-ratio 0.01
  curl -N http://127.0.0.1:8000/v1/completions -d '{"prompt": "hello", "max_tokens": 5, "stream": true}'

\b
It generates exactly max_tokens tokens (default 16; 128 for chat). A prompt's length is its number of
token ids or of words, or what the header x-penstock-input-tokens says. SIGTERM drains, Ctrl-C ends."""
)
@click.option("--profile", "profile_name", required=True, help="Engine profile, e.g. llama-3.1-8b-h100.")
@click.option(
    "--speed",
    type=PositiveNumber(0.001, 100),
    default=1.0,
    show_default=True,
    help="Multiplies the engine's speed: at 0.2 each step takes five times as long.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 picks a free one."
)
@click.option(
    "--model-name",
    "model_names",
    multiple=True,
    help="Name in the API, may be repeated; the first one is in replies and metrics. Default: the profile's.",
)
@click.option(
    "--max-num-seqs", type=click.IntRange(1), default=None, help="Sequences at once; default: the profile's."
)
@click.option("--max-model-len", type=click.IntRange(16), default=None, help="Longest prompt plus answer.")
@click.option(
    "--max-num-queued-reqs",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="Requests in flight before new ones get 503 (vLLM's flag of this name).",
)
@click.option("--startup-delay", type=DURATION, default="0s", show_default=True, help="Until ready.")
@click.option("--drain-timeout", type=DURATION, default="30s", show_default=True, help="For streams to end.")
@click.option("--fail-ratio", type=PositiveNumber(0, 1), default=0.0, help="Requests answered 500.")
@click.option("--cut-ratio", type=PositiveNumber(0, 1), default=0.0, help="Streams cut after one token.")
@click.option("--slow-factor", type=PositiveNumber(0.01, 1000), default=1.0, help="Stretches each step.")
@click.option("--slow-after", type=DURATION, default="0s", help="When --slow-factor begins.")
@click.option("--stall-after", type=DURATION, default=None, help="No step ends any more; still healthy.")
@click.option(
    "--hang-metrics", "hang_metrics_after", type=DURATION, default=None, help="/metrics hangs then."
)
@click.option("--crash-after", type=DURATION, default=None, help="The process dies with status 1.")
@click.option("--seed", type=int, default=0, help="Of the requests that fail.")
@click.option("--parent-pid", type=int, default=None, help="End at once when this is no longer the parent.")
def engine(
    *,
    profile_name: str,
    speed: float,
    host: str,
    port: int,
    model_names: tuple[str, ...],
    max_num_seqs: int | None,
    max_model_len: int | None,
    max_num_queued_reqs: int,
    startup_delay: float,
    drain_timeout: float,
    fail_ratio: float,
    cut_ratio: float,
    slow_factor: float,
    slow_after: float,
    stall_after: float | None,
    hang_metrics_after: float | None,
    crash_after: float | None,
    seed: int,
    parent_pid: int | None,
) -> None:
    """Run a stand-in LLM server with an engine profile's timing.

    OpenAI's completions and chat completions, /health, and /metrics with vLLM's names.
    """
    raise_file_limit()
    faults = Faults(
        fail_ratio=fail_ratio,
        cut_ratio=cut_ratio,
        slow_factor=slow_factor,
        slow_after_seconds=slow_after,
        stall_after_seconds=stall_after,
        hang_metrics_after_seconds=hang_metrics_after,
        crash_after_seconds=crash_after,
    )
    try:
        profile = profile_named(profile_name).at_speed(1 / speed)
        limits = EngineLimits(
            slots=max_num_seqs or profile.max_sequences,
            kv_capacity_tokens=int(profile.kv_capacity_tokens),
            step_budget_tokens=profile.step_token_budget,
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    settings = EngineSettings(
        model_name=model_names[0] if model_names else profile_name,
        other_names=model_names[1:],
        limits=limits,
        max_model_tokens=max_model_len or min(LONGEST_CONTEXT, limits.kv_capacity_tokens),
        step_seconds=_step_seconds(profile.step_law),
        frontend_seconds=profile.frontend_seconds,
        max_in_flight=max_num_queued_reqs,
        faults=faults,
        seed=seed,
    )
    process = ProcessSettings(
        host=host,
        port=port,
        startup_seconds=startup_delay,
        drain_seconds=drain_timeout,
        parent_pid=parent_pid,
    )
    try:
        status = asyncio.run(run_engine(settings, process, lambda line: click.echo(line, err=True)))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from error
    sys.exit(status)


def _step_seconds(law: StepLaw) -> Callable[[StepWork], float]:
    def seconds(work: StepWork) -> float:
        return float(
            law.step_seconds(work.prefill_tokens, work.decoding, work.prefill_token_pairs, work.kv_tokens)
        )

    return seconds
