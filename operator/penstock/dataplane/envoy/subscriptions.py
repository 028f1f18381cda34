"""One question that a proxy keeps asking: what it was sent, what it took, what it refused.

REST xDS has no NACK. A proxy that asks with its old version after a new one was sent has lost the answer or
refused the content. It is sent once more, and when it asks with the old version again it has refused. Then
nothing is sent until the content changes or a pause has passed: else it would ask 50 times a second.

Several clusters of a proxy may ask for the same endpoints, each with a version of its own; so the same old
version is no refusal before it came twice from each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from penstock.dataplane.envoy.versions import Versioned

SENDS: Final = 2
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass(slots=True)
class Subscription:
    """Times are monotonic seconds."""

    sent: Versioned | None = None
    taken: str = ""  # the version that the proxy said last it has, of those it was sent
    taken_items: Mapping[str, str] = field(default_factory=dict)
    on_its_way: bool = False  # nothing was asked since `sent` was
    refusals: int = 0  # of `sent`
    again_at: float = 0.0  # when `sent` may be sent again after a refusal
    sends: Counter[str] = field(default_factory=Counter)  # of `sent`, by the version asked with
    suspects: Mapping[str, str] = field(default_factory=dict)  # resources in what was refused, by version

    @property
    def refused(self) -> bool:
        """Whether the proxy has refused what was sent last."""
        return self.refusals > 0

    def holds(self, version: str) -> bool:
        """Whether the proxy has that version and nothing else is on its way to it."""
        return self.taken == version and not self.on_its_way

    def asked(self, version: str, answer: Versioned) -> None:
        """Note a question of a proxy that says it has `version`; `answer` is what it is to have."""
        self.on_its_way = False
        if self.sent is not None and version == self.sent.version:
            self.taken, self.taken_items = version, self.sent.items
        elif version == answer.version:
            # Sent by the operator's former life, or by the agent.
            self.taken, self.taken_items, self.sent = version, answer.items, answer
        else:
            return
        self.refusals, self.suspects = 0, {}
        self.sends.clear()

    def refused_names(self, answer: Versioned) -> list[str]:
        """Return what of `answer` the proxy refused before and would still refuse.

        Remembered while newer content is on its way: limits move each second, and refusal takes 40 ms.
        """
        return [name for name, version in self.suspects.items() if answer.items.get(name) == version]

    def may_send(self, version: str, answer: Versioned, *, askers: int, now: float) -> bool:
        """Whether to send `answer` to a question with `version`, of which `askers` may ask at once."""
        if answer.version == version:
            return False
        if self.sent is None or self.sent.version != answer.version:
            return True
        if self.sends[version] < SENDS * askers:
            return True
        if not self.refused:
            self._refuse(now)
        return now >= self.again_at

    def send(self, version: str, answer: Versioned, now: float) -> None:
        """Note an answer to a question with `version`."""
        if self.sent is None or self.sent.version != answer.version:
            self.sent, self.refusals = answer, 0
            self.sends.clear()
        self.sends[version] += 1
        self.on_its_way = True
        if self.refused:
            self._refuse(now)

    def _refuse(self, now: float) -> None:
        items = self.sent.items if self.sent is not None else {}
        # One bad resource refuses the whole answer: what was suspected before and is unchanged explains it.
        known = {name: version for name, version in self.suspects.items() if items.get(name) == version}
        self.suspects = known or {
            name: version for name, version in items.items() if self.taken_items.get(name) != version
        }
        pause = FIRST_PAUSE_SECONDS * 2.0 ** min(self.refusals, 10)
        self.again_at = now + min(LONGEST_PAUSE_SECONDS, pause)
        self.refusals += 1
