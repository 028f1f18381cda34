"""The files of a recording: ``observations-000001.jsonl`` beside ``decisions-000001.jsonl``, bounded in all.

A pair is a segment of an eighth of the bound; one that is full is compressed (a tenth is left), and the
oldest are deleted before a new one is begun, those of earlier processes too. A write that fails leaves no
half line behind; what a process that was killed leaves is mended by the next one.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
from collections.abc import Sequence
from io import FileIO
from itertools import accumulate
from pathlib import Path

SEGMENTS = 8
LEAST_BYTES = 16 << 20
KINDS = ("observations", "decisions")
_NAME = re.compile(rf"(?:{'|'.join(KINDS)})-(\d{{6,}})\.jsonl(?:\.gz)?")
# Hidden, so that whoever reads observations-* does not read them twice.
_PART = re.compile(rf"\.(?:{'|'.join(KINDS)})-\d{{6,}}\.jsonl\.gz\.part")
_FAST = 1  # gzip's level: 18 MB of a tick in 0.1 s


class RecordFiles:
    """Writes pairs of files in a directory. Raises OSError where it cannot be written to."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        if limit_bytes < LEAST_BYTES:
            raise ValueError(f"a recording needs at least {LEAST_BYTES >> 20} MiB, got {limit_bytes:,} bytes")
        self._directory, self._limit = directory, limit_bytes
        self._open: list[FileIO] = []
        self._sizes = [0, 0]
        self._mended = False
        directory.mkdir(parents=True, exist_ok=True)
        # Found out now and not at the first tick: a wrong path is the user's to mend.
        probe = directory / f".penstock-{os.getpid()}"
        probe.touch()
        probe.unlink()

    @property
    def segment_bytes(self) -> int:
        """Return how large both files of a segment may become together."""
        return self._limit // SEGMENTS

    def has_room(self, observations: bytes, decisions: bytes) -> bool:
        """Whether the segment in progress can take these; an empty one takes anything."""
        size = sum(self._sizes)
        return not size or size + len(observations) + len(decisions) <= self.segment_bytes

    def write(self, observations: bytes, decisions: bytes) -> None:
        """Append to both files, or to none of them."""
        if not self._open:
            self._begin()
        try:
            for file, content in zip(self._open, (observations, decisions), strict=True):
                _append(file, content)
        except OSError:
            for file, size in zip(self._open, self._sizes, strict=True):
                # On a full disk a file can still be cut.
                with contextlib.suppress(OSError):
                    file.truncate(size)
                    file.seek(size)
            raise
        self._sizes = [file.tell() for file in self._open]

    def end_segment(self) -> None:
        """Compress the segment in progress; the next write begins new files."""
        written = [Path(file.name) for file in self._open]
        self.close()
        for path in written:
            _compress(path)

    def close(self) -> None:
        """Close the files of the segment in progress."""
        for file in self._open:
            file.close()
        self._open, self._sizes = [], [0, 0]

    def _begin(self) -> None:
        """Make room, then open the files after the last ones."""
        if not self._mended:
            # Not before: a standby with the same directory would cut what the leader is writing.
            self._mend()
            self._mended = True
        segments = self._segments()
        while segments and sum(segments.values()) > self._limit - 2 * self.segment_bytes:
            # Two: the new one, and the copy of a file that is being compressed.
            oldest = min(segments)
            for kind in KINDS:
                for path in self._directory.glob(f"{kind}-{oldest:06d}.jsonl*"):
                    path.unlink(missing_ok=True)
            del segments[oldest]
        number = max(segments, default=0) + 1
        with contextlib.ExitStack() as stack:
            # Unbuffered: after a crash the files hold whole ticks; x: never another process's file.
            opened = [stack.enter_context(self._path(kind, number).open("xb", buffering=0)) for kind in KINDS]
            stack.pop_all()
        self._open, self._sizes = opened, [0, 0]

    def _mend(self) -> None:
        """Leave each line of the segment in which a process was killed whole, once, and in both files."""
        for path in list(self._directory.iterdir()):
            if _PART.fullmatch(path.name):
                path.unlink()
        newest = max(self._segments(), default=0)
        plain = [path for kind in KINDS if (path := self._path(kind, newest)).exists()]
        for path in plain:
            # The original is deleted last. Where it is left, it is whole; its copy need not be.
            _packed(path).unlink(missing_ok=True)
        _cut_to_whole_lines(plain)

    def _segments(self) -> dict[int, int]:
        """Return the size of each pair that is there."""
        sizes: dict[int, int] = {}
        for path in self._directory.iterdir():
            found = _NAME.fullmatch(path.name)
            if found is not None:
                number = int(found.group(1))
                sizes[number] = sizes.get(number, 0) + path.stat().st_size
        return sizes

    def _path(self, kind: str, number: int) -> Path:
        return self._directory / f"{kind}-{number:06d}.jsonl"


def _compress(path: Path) -> None:
    """Replace a file by its .gz; where there is no room for that it stays as it is."""
    part = path.with_name(f".{path.name}.gz.part")
    try:
        with path.open("rb") as plain, gzip.open(part, "wb", compresslevel=_FAST) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)
        part.rename(_packed(path))
        path.unlink()
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _cut_to_whole_lines(paths: Sequence[Path]) -> None:
    """Cut files after as many whole lines as all of them have."""
    ends = [_line_ends(path) for path in paths]
    lines = min(map(len, ends), default=0)
    for path, each in zip(paths, ends, strict=True):
        os.truncate(path, each[lines - 1])


def _line_ends(path: Path) -> list[int]:
    """Return where a file begins, and where each of its whole lines ends, in bytes."""
    with path.open("rb") as file:
        return [0, *accumulate(len(line) for line in file if line.endswith(b"\n"))]


def record_files(directory: str, limit_bytes: int) -> RecordFiles | None:
    """Return where records go; None for no directory. Raises OSError for one that cannot be written to."""
    return RecordFiles(Path(directory), limit_bytes) if directory else None


def _append(file: FileIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]
