"""The samples of a large instant vector, parsed piece by piece while they are read.

Parsed at once, 1 MB of answer becomes 8 MB of dicts and strings: in a heap that has been in use for a while
each of them is a cache miss (16 ms for 10,000 samples; 8 ms in pieces of 16 KB, which stay in the cache).
Samples are told apart by ``{"metric":{``. That cannot stand inside a string, where quotes are escaped, nor
among labels, whose values are strings. Answers that are small or written with blanks are read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from penstock.metrics_source.base import Sample
from penstock.metrics_source.failure import SHAPE_ERRORS, not_prometheus, refuse_shape

BEGIN = b'{"metric":{'
NEXT = b"," + BEGIN
PIECE_BYTES = 16 * 1024
LONG_BYTES = 4 * PIECE_BYTES


@dataclass(frozen=True, slots=True)
class Span:
    """Where, in the body of a long answer, all samples but the last one are: [start, end)."""

    start: int
    end: int

    @classmethod
    def of(cls, body: bytes) -> Span | None:
        """Return the span; None where the answer is to be read at once."""
        start, end = body.find(BEGIN), body.rfind(NEXT)
        return cls(start, end) if 0 <= start < end - LONG_BYTES else None

    def envelope(self, body: bytes) -> bytes:
        """Return the answer with its last sample only: its type, its warnings, and whether it is whole."""
        return body[: self.start] + body[self.end + 1 :]


@dataclass(frozen=True, slots=True)
class LongVector:
    """Samples of a long answer: those of its span, then the `last` one, which was read before.

    Iterating raises `QueryError` where a sample has another shape.
    """

    body: bytes
    query: str
    span: Span
    last: list[Sample]

    def __len__(self) -> int:
        return self.body.count(BEGIN)

    def __iter__(self) -> Iterator[Sample]:
        return chain(chain.from_iterable(map(self._parsed, self._pieces())), self.last)

    def _pieces(self) -> Iterator[bytes]:
        """Yield JSON arrays of some samples each."""
        start, end = self.span.start, self.span.end
        while start < end:
            until = self.body.find(NEXT, start + PIECE_BYTES, end)
            if until < 0:
                until = end
            yield b"[" + self.body[start:until] + b"]"
            start = until + 1

    def _parsed(self, piece: bytes) -> list[Sample]:
        try:
            found = orjson.loads(piece)
        except orjson.JSONDecodeError:
            raise not_prometheus(self.body, self.query) from None
        return samples_of(found, self.query)


def samples_of(result: Any, query: str) -> list[Sample]:
    """Return (labels, value) of parsed samples; raises `QueryError` where one has another shape."""
    try:
        return [(each["metric"], float(each["value"][1])) for each in result]
    except SHAPE_ERRORS:
        refuse_shape(query, {"result": result})
