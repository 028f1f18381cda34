"""A played world whose operator records, and what a replay of that says."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import yaml
from click.testing import CliRunner, Result

from fakes.world import TICK, WINDOW, World
from penstock.cli.replay import replay
from penstock.controller.record_files import LEAST_BYTES, RecordFiles
from penstock.controller.recording import Recorder, Seen
from penstock.policy.beliefs import LoopTimes


@dataclass
class Unhurried:
    """A recorder that has written before the next tick begins, however fast the walked time."""

    recorder: Recorder

    def take(self, tick: Sequence[Seen]) -> None:
        self.recorder.take(tick)
        self.recorder.wait_until_written()


def record(world: World, directory: Path, limit_bytes: int = LEAST_BYTES) -> Recorder:
    """Let a world's operator record; close what is returned."""
    times = LoopTimes(tick_seconds=TICK, rate_window_seconds=WINDOW)
    recorder = Recorder(RecordFiles(directory, limit_bytes), times, world.metrics)
    world.loop._parts = replace(world.loop._parts, recorder=Unhurried(recorder))  # type: ignore[arg-type]
    return recorder


def recorded(directory: Path, kind: str, segment: int | None = None) -> bytes:
    """All lines of a kind, oldest first, or those of one segment."""
    number = "*" if segment is None else f"{segment:06d}"
    paths = sorted(directory.glob(f"{kind}-{number}.jsonl*"))
    return b"".join(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths
    )


def lines(content: bytes) -> list[Any]:
    return [orjson.loads(line) for line in content.splitlines()]


def replayed(spec: dict[str, Any], observations: bytes, directory: Path, *options: str) -> Result:
    """Run ``penstock replay`` on the service ``prod/chat``."""
    path = directory / "service.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "serving.penstock.dev/v1alpha1",
                "kind": "InferenceService",
                "metadata": {"name": "chat", "namespace": "prod"},
                "spec": spec,
            }
        )
    )
    return CliRunner().invoke(replay, ["-f", str(path), *options], input=observations)
