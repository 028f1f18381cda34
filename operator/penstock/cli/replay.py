"""``penstock replay``: recorded observations in, decisions out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NoReturn

import click
import orjson
from rich.console import Console

from penstock.cli.plan_fault import PlanFault
from penstock.cli.plan_service import read_service
from penstock.cli.positive_number import PositiveNumber
from penstock.cli.standard_streams import require_input
from penstock.model.profiles import UnknownProfile
from penstock.model.spec import ServiceSpec
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem, solve
from penstock.policy.capacity_table import CapacityTable
from penstock.records.decision import decision_line
from penstock.records.fault import RecordFault
from penstock.records.observation import Recorded, read_observation
from penstock.records.replay import ServiceReplay

INTERRUPTED = 130
LONGEST_LINE_BYTES = 4 << 20  # the largest of 64 pods with all that is remembered has 60 kB
QUIET_SECONDS = 2.0
SOLVED_AT_ONCE = 1024


class _Observations(click.File):
    """A file to read, or standard input, which may be closed."""

    def convert(
        self,
        value: str | os.PathLike[str] | IO[Any],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> IO[Any]:
        """Open it."""
        if value == "-":
            require_input()
        return super().convert(value, param, ctx)


@click.command(
    epilog="""\b
Examples:
  zcat -f records/observations-* | penstock replay -f service.yaml > decisions.jsonl
  penstock replay -f service.yaml < observations.jsonl | jq -c '[.at, .replicas.value, .replicas.reason]'
  penstock replay -f changed.yaml -i observations.jsonl | diff decisions.jsonl -
  echo '{"at": 0, "load": {"arrival_rate": 17.2}, "pool": {"target": 2, "current": 2, "ready": 2}}' \\
      | penstock replay -f service.yaml

\b
An observation is one JSON object a line (docs/observation.schema.json); `penstock run --record DIR`
writes them. A signal that is null or left out is missing, never zero; arrival_rate must be there, be it
null. Lines of other services are passed over. Decisions: docs/decision.schema.json.

\b
Exit status: 0 replayed; 2 a line or the service cannot be used; 130 Ctrl-C."""
)
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with the InferenceService (the first one counts).",
)
@click.option(
    "-i",
    "--input",
    "observations",
    type=_Observations("rb"),
    default="-",
    help="Observations; default: standard input.",
)
@click.option(
    "--tick-seconds",
    type=PositiveNumber(0.2, 300),
    default=15.0,
    show_default=True,
    help="Seconds between two observations, where a recording does not say it itself.",
)
@click.option(
    "--rate-window",
    type=PositiveNumber(1, 3600),
    default=60.0,
    show_default=True,
    help="Seconds over which rates were counted, where a recording does not say it itself.",
)
def replay(*, path: Path, observations: IO[bytes], tick_seconds: float, rate_window: float) -> None:
    """Decide on recorded observations again: the operator's own code without a cluster or a clock.

    The same observations give the same decisions, one a line.
    """
    times = LoopTimes(tick_seconds=tick_seconds, rate_window_seconds=rate_window)
    try:
        spec = read_service(path)
        _replay(spec, path, times, observations)
        sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        _leave_quietly()


def _replay(spec: ServiceSpec, path: Path, times: LoopTimes, observations: IO[bytes]) -> None:
    """Write one decision for each observation of the service; `path` is where it was read from."""
    try:
        service = ServiceReplay(spec, times, _solved)
    except UnknownProfile as error:
        raise PlanFault(str(error), "name a profile that exists in engine.profile.name") from error
    name, out = str(spec.key), sys.stdout.buffer
    others: set[str] = set()
    generation, count, began, said = None, 0, time.monotonic(), 0.0
    with Console(stderr=True).status("replaying") as progress:  # shown on a terminal only
        for number, recorded in _recorded(observations):
            if recorded.service and recorded.service != name:
                others.add(recorded.service)
                continue
            if None not in (generation, recorded.generation) and generation != recorded.generation:
                _warn_of_change(number, generation, recorded, path)
            generation = recorded.generation
            try:
                decided = service.decide(recorded)
            except RecordFault as fault:
                raise _refused(number, fault) from fault
            line = decision_line(
                recorded.seen.at, name, decided.replicas, decided.admission, decided.fallback
            )
            out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            out.flush()  # a stream that goes on for hours is answered line by line
            count += 1
            elapsed = time.monotonic() - began
            if elapsed > said + QUIET_SECONDS:
                said = elapsed
                progress.update(f"replaying: {count:,} observations")
    if not count:
        found = f"only of {', '.join(sorted(others)[:5])}" if others else "no line at all"
        raise PlanFault(
            f"no observation of {name}: {found}",
            "give the file of the recorded service, metadata.namespace included, or leave out `service`",
        )


def _recorded(observations: IO[bytes]) -> Iterator[tuple[int, Recorded]]:
    """Yield line number and observation. Raises PlanFault with the line."""
    number = 0
    while content := observations.readline(LONGEST_LINE_BYTES):
        number += 1
        if len(content) == LONGEST_LINE_BYTES:
            raise PlanFault(
                f"line {number}: longer than {LONGEST_LINE_BYTES:,} bytes", "one observation a line"
            )
        if not content.strip():
            continue
        try:
            yield number, read_observation(orjson.loads(content))
        except orjson.JSONDecodeError as error:
            if not content.endswith(b"\n"):
                # The last line of a process that was killed, or that is writing it.
                click.echo(f"Warning: line {number}: cut off in the middle, it is left out", err=True)
                return
            raise PlanFault(f"line {number}: no JSON: {error}", "write one JSON object a line") from error
        except RecordFault as fault:
            raise _refused(number, fault) from fault


def _warn_of_change(number: int, generation: int | None, recorded: Recorded, path: Path) -> None:
    said = (
        f"Warning: line {number}: the service was changed here (generation {generation} to "
        f"{recorded.generation}); all lines are decided with {path}"
    )
    if recorded.begin is not None:
        said += "; cut the recording here to replay each part with the file of then"
    click.echo(said, err=True)


def _refused(number: int, fault: RecordFault) -> PlanFault:
    return PlanFault(f"line {number}: {fault}", "see docs/observation.schema.json")


@lru_cache(maxsize=SOLVED_AT_ONCE)
def _solved(problem: CapacityProblem) -> CapacityTable | None:
    """Solve a problem; None where it has no solution, as the operator goes on with the table at hand."""
    try:
        return solve(problem)
    except (ValueError, ArithmeticError) as error:
        click.echo(f"Warning: a capacity table cannot be solved: {error}", err=True)
        return None


def _leave_quietly() -> NoReturn:
    """End as a program whose reader has gone: without a word, and without flushing into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)
