"""Records are bounded in size, and neither a full disk nor a slow one reaches the tick."""

from __future__ import annotations

import errno
import resource
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fakes.recorded_world import lines, record, recorded
from fakes.world import World, chat
from penstock.controller.record_files import LEAST_BYTES, SEGMENTS, RecordFiles
from penstock.controller.recording import MOST_TICKS_WAITING

HALF = np.random.default_rng(5).bytes(LEAST_BYTES // SEGMENTS // 2)  # no smaller when compressed


def total(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def fill(files: RecordFiles, times: int) -> None:
    for _ in range(times):
        if not files.has_room(HALF, HALF):
            files.end_segment()
        files.write(HALF, HALF)


def test_the_oldest_segments_make_room_for_new_ones_also_of_an_earlier_process(tmp_path: Path) -> None:
    for _ in range(2):
        files = RecordFiles(tmp_path, LEAST_BYTES)
        fill(files, SEGMENTS + 2)
        files.close()
        assert LEAST_BYTES // 2 < total(tmp_path) <= LEAST_BYTES
    assert not list(tmp_path.glob("*.part"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-1] == f"observations-{2 * (SEGMENTS + 2):06d}.jsonl"
    assert f"decisions-{2 * (SEGMENTS + 2):06d}.jsonl" in names
    assert 2 * (SEGMENTS - 3) <= len(names) <= 2 * SEGMENTS


def test_a_full_segment_is_compressed_and_one_in_progress_can_be_followed(tmp_path: Path) -> None:
    files, line = RecordFiles(tmp_path, LEAST_BYTES), b'{"at": 1}\n' * 10_000
    files.write(line, line)
    files.end_segment()
    files.write(line, line)
    files.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "decisions-000001.jsonl.gz",
        "decisions-000002.jsonl",
        "observations-000001.jsonl.gz",
        "observations-000002.jsonl",
    ]
    assert recorded(tmp_path, "observations") == recorded(tmp_path, "decisions") == 2 * line
    assert (tmp_path / "decisions-000001.jsonl.gz").stat().st_size < len(line) / 10


def test_other_files_of_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "observations-notes.txt").write_text("mine")
    files = RecordFiles(tmp_path, LEAST_BYTES)
    fill(files, SEGMENTS + 2)
    files.close()
    assert (tmp_path / "observations-notes.txt").read_text() == "mine"


def test_a_directory_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        RecordFiles(tmp_path / "file", LEAST_BYTES)


def test_a_bound_too_small_to_hold_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a recording needs at least 16 MiB, got 1,000 bytes"):
        RecordFiles(tmp_path, 1000)


class FullDisk(RecordFiles):
    """A disk that is full for some writes."""

    full = False

    def write(self, observations: bytes, decisions: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(observations, decisions)


@dataclass
class Said:
    """A logger that keeps what it is told, and how severe that is."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def error(self, event: str, **_: object) -> None:
        self.lines.append(("error", event))

    def info(self, event: str, **_: object) -> None:
        self.lines.append(("info", event))


async def test_a_full_disk_costs_records_and_no_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    monkeypatch.setattr("penstock.controller.recording.log", said)
    monkeypatch.setattr("fakes.recorded_world.RecordFiles", FullDisk)
    world = World(rate=lambda t: 20.0 + t / 20.0, spec=chat(), target=2)
    recorder = record(world, tmp_path)
    await world.run(150)
    recorder._files.full = True  # type: ignore[attr-defined]
    await world.run(300)
    recorder._files.full = False  # type: ignore[attr-defined]
    await world.run(150)
    recorder.close()
    world.tables.close()
    assert world.target > 2
    registry = world.metrics.registry
    assert registry.get_sample_value("penstock_records_total") == 20
    assert registry.get_sample_value("penstock_records_lost_total", {"reason": "failed"}) == 20
    assert [
        each["at"] - 1_000_000 for each in lines(recorded(tmp_path, "observations")) if "begin" in each
    ] == [
        0.0,
        450.0,
    ]
    assert said.lines == [
        ("error", "records cannot be written; decisions go on without"),
        ("info", "records are written again"),
    ]


def test_a_write_that_fails_in_the_middle_leaves_no_half_line(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path, LEAST_BYTES)
    files.write(b"one\n", b"one\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        # The observations fit, of the decisions only a part does.
        with pytest.raises(OSError, match="File too large"):
            files.write(b"two\n", b"two" * 50_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"one\n", b"one\n"]
    files.write(b"three\n", b"three\n")
    files.close()
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"one\nthree\n", b"one\nthree\n"]


async def test_a_tick_does_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(RecordFiles, "write", lambda *_: goes_on.wait(30))
    world = World(rate=lambda _: 20.0, spec=chat(), target=2)
    recorder = record(world, tmp_path)
    for _ in range(MOST_TICKS_WAITING + 4):
        recorder.take([object()] * 3)  # type: ignore[list-item]
    lost = world.metrics.registry.get_sample_value("penstock_records_lost_total", {"reason": "behind"})
    assert lost is not None
    assert lost >= 3 * 3
    goes_on.set()
    recorder.close()
    world.tables.close()


async def test_nothing_is_recorded_unless_it_is_asked_for(tmp_path: Path) -> None:
    world = World(rate=lambda _: 20.0, spec=chat(), target=2)
    assert world.loop._parts.recorder is None
    await world.run(60)
    world.tables.close()
    assert world.metrics.registry.get_sample_value("penstock_records_total") == 0
