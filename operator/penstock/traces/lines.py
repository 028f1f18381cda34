"""Lines of a text file that may be compressed, a line at a time whatever its size."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

from penstock.traces.fault import TraceFault

LONGEST_LINE_BYTES = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_lines(path: Path) -> Generator[str, None, None]:
    """Yield the lines of a file, gzip or not; closing it closes the file.

    Raises TraceFault with the line that is not text.
    """
    try:
        with path.open("rb") as file:
            yield from _decoded(path, _unpacked(path, file))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TraceFault(
            f"{path}: not a whole gzip file: {error}", "compress it again, or give the plain .csv"
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise TraceFault(f"{path} cannot be read: {why}", "give a file that can be read") from error


def _unpacked(path: Path, file: io.BufferedReader) -> io.BufferedIOBase:
    # Recognised by its first bytes: a compressed file without the suffix is read all the same.
    start = file.peek(len(_GZIP_MAGIC))
    if start.startswith(_GZIP_MAGIC):
        return gzip.open(file)
    if start and path.suffix == ".gz":
        raise TraceFault(
            f"{path} is named .gz but is not gzip", "compress it with gzip, or rename it to .csv"
        )
    return file


def _decoded(path: Path, file: io.BufferedIOBase) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES):
        number += 1
        if len(line) == LONGEST_LINE_BYTES:
            raise TraceFault(
                f"{path}, line {number}: longer than {LONGEST_LINE_BYTES:,} bytes", "give a CSV file"
            )
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise TraceFault(f"{path}, line {number}: not UTF-8 text", "give a CSV file") from error
