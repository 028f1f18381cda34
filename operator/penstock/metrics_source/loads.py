"""What a tick has collected, by service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.metrics_source.fleet import EngineLoads, silenced
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import ServiceKey


class FleetLoads(Mapping[ServiceKey, Load]):
    """Loads by service; most are put together when they are asked for."""

    def __init__(self) -> None:
        self._engines: list[tuple[Mapping[ServiceKey, int], EngineLoads]] = []
        self._own: dict[ServiceKey, Load] = {}  # of services with queries of their own
        self._silence: Reading | None = None

    def add_engine(self, rows: Mapping[ServiceKey, int], loads: EngineLoads) -> None:
        """Add the services of one engine type; `rows` are their rows."""
        self._engines.append((rows, loads))

    def add(self, key: ServiceKey, load: Load) -> None:
        """Add, or put in place of what its engine says, the load of one service."""
        self._own[key] = load

    def silence(self, why: Reading) -> None:
        """Let every signal of all services be missing."""
        self._silence = why

    def __getitem__(self, key: ServiceKey) -> Load:
        load = self._own.get(key) if self._own else None
        if load is None:
            for rows, loads in self._engines:
                row = rows.get(key)
                if row is not None:
                    load = loads.load(row)
                    break
            else:
                raise KeyError(key)
        return load if self._silence is None else silenced(load, self._silence, age=self._silence)

    def __iter__(self) -> Iterator[ServiceKey]:
        seen = dict.fromkeys(self._own)
        for rows, _ in self._engines:
            seen.update(dict.fromkeys(rows))
        return iter(seen)

    def __len__(self) -> int:
        return sum(1 for _ in self)
