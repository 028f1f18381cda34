"""Follows one canary: where it stands in status, and its evidence in the operator's metrics; tells both."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import aiohttp

from penstock.sandbox.demo.canary_story import (
    EvidenceReading,
    Stand,
    evidence_remarks,
    has_moved,
    read_evidence,
    sentence,
    stand_of,
)
from penstock.sandbox.demo.commentary import Say
from penstock.sandbox.demo.scene import NAME
from penstock.sandbox.demo.witness import SAMPLE_SECONDS, Witness

READ_SECONDS = 1.0
TELL_SECONDS = 10.0
_JUDGED = "Testing"


@dataclass(slots=True)
class CanaryWatch:
    """What was seen of the revision under way; `begin` forgets the one before."""

    witness: Witness
    session: aiohttp.ClientSession
    metrics_port: int
    say: Say
    stands: list[Stand] = field(default_factory=list, init=False)
    readings: list[EvidenceReading] = field(default_factory=list, init=False)
    _latest: Stand | None = field(default=None, init=False)

    @property
    def revision(self) -> str:
        """The revision that status names; empty: none."""
        return "" if self._latest is None else self._latest.revision

    def begin(self) -> None:
        """Keep what is seen from now on only."""
        self.stands, self.readings = [], []

    def has_ended(self, phases: Collection[str], *, other_than: str) -> bool:
        """Whether a revision other than the one before has come to one of these phases."""
        latest = self._latest
        return latest is not None and latest.phase in phases and latest.revision != other_than

    async def run(self) -> None:
        """Watch until cancelled."""
        read_at = told_at = 0.0
        while True:
            now = self.witness.elapsed_seconds
            stand = stand_of(self.witness.status, now)
            if stand is not None and has_moved(self._latest, stand):
                self._see(stand)
                told_at = now
            if now - read_at >= READ_SECONDS:
                read_at = now
                await self._read(now)
            judged = self._latest is not None and self._latest.phase == _JUDGED
            if judged and self.readings and now - told_at >= TELL_SECONDS:
                told_at = now
                for remark in evidence_remarks(self.readings[-1]):
                    self.say(remark.kind, remark.text)
            await asyncio.sleep(SAMPLE_SECONDS)

    def _see(self, stand: Stand) -> None:
        before, self._latest = self._latest, stand
        if stand.revision and (before is None or stand.revision == before.revision or stand.phase != "Idle"):
            self.stands.append(stand)
        remark = sentence(self.witness.status, stand)
        self.say(remark.kind, remark.text)

    async def _read(self, now: float) -> None:
        """Read the metrics; what cannot be read this second is read the next."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with self.session.get(url, timeout=timeout) as response:
                text = await response.text() if response.status == 200 else ""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
        reading = read_evidence(text, NAME, now)
        if reading.metrics:
            self.readings.append(reading)
