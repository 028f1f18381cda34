"""What a process that was killed leaves in a record directory is read once and whole after that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.recorded_world import recorded
from penstock.controller.record_files import LEAST_BYTES, RecordFiles

LINES = b'{"at": 1}\n{"at": 2}\n'


class Killed(BaseException):
    """The end of a process at once."""


def kill(*_: object, **__: object) -> None:
    raise Killed


def in_the_copy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("penstock.controller.record_files.shutil.copyfileobj", kill)


def before_the_copy_has_its_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "rename", kill)


def before_the_original_is_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "unlink", kill)


def written(directory: Path, content: bytes = LINES) -> RecordFiles:
    files = RecordFiles(directory, LEAST_BYTES)
    files.write(content, content)
    return files


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    "moment", [in_the_copy, before_the_copy_has_its_name, before_the_original_is_deleted]
)
def test_a_segment_whose_compression_was_cut_short_is_there_once(
    moment: Callable[[pytest.MonkeyPatch], None], tmp_path: Path
) -> None:
    files = written(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        moment(patch)
        with pytest.raises(Killed):
            files.end_segment()
    if moment is not before_the_original_is_deleted:
        assert recorded(tmp_path, "observations") == LINES, "a half copy is hidden from whoever reads now"
    written(tmp_path).close()
    assert recorded(tmp_path, "observations") == recorded(tmp_path, "decisions") == 2 * LINES
    assert not any(name.endswith(".part") for name in names(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"nothing that was compressed"])
def test_a_copy_that_lost_its_content_with_the_power_gives_way_to_the_original(
    content: bytes, tmp_path: Path
) -> None:
    written(tmp_path).close()
    (tmp_path / "observations-000001.jsonl.gz").write_bytes(content)
    written(tmp_path).close()
    assert recorded(tmp_path, "observations") == 2 * LINES


@pytest.mark.parametrize(
    ("observations", "decisions"),
    [
        (b'{"at": 3, "lo', b""),
        (b'{"at": 3}\n{"at": 4}\n{"at', b'{"at": 3}\n{"a'),
        (b'{"at": 3}\n', b""),
    ],
)
def test_both_files_of_a_segment_are_cut_after_the_lines_that_both_hold_whole(
    observations: bytes, decisions: bytes, tmp_path: Path
) -> None:
    written(tmp_path).close()
    for name, more in (("observations", observations), ("decisions", decisions)):
        with (tmp_path / f"{name}-000001.jsonl").open("ab") as file:
            file.write(more)
    written(tmp_path).close()
    both = min(observations.count(b"\n"), decisions.count(b"\n")) * b'{"at": 3}\n'
    assert recorded(tmp_path, "observations") == LINES + both + LINES
    assert recorded(tmp_path, "decisions") == LINES + both + LINES


def test_a_segment_without_a_whole_line_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "observations-000001.jsonl").write_bytes(b'{"at"')
    written(tmp_path).close()
    assert recorded(tmp_path, "observations") == LINES


def test_a_standby_leaves_alone_what_the_leader_is_writing(tmp_path: Path) -> None:
    leader = written(tmp_path)
    with (tmp_path / "observations-000001.jsonl").open("ab") as file:
        file.write(b'{"at": 3, "lo')
    RecordFiles(tmp_path, LEAST_BYTES).close()
    assert recorded(tmp_path, "observations") == LINES + b'{"at": 3, "lo'
    leader.close()
