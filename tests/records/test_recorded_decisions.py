"""What the operator of a played world recorded is decided again by the replay, to the last digit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from fakes.gateway_world import GatewayWorld, routed_chat
from fakes.json_schema import faults
from fakes.recorded_world import lines, record, recorded, replayed
from fakes.world import World, chat
from penstock.controller.record_files import RecordFiles
from penstock.policy.memory import NO_SPEED

DOCS = Path(__file__).parents[2] / "docs"
FALLBACK = {"backendRef": {"kind": "Service", "name": "spare", "port": 8000, "maxInFlight": 40}}


def other_engine() -> dict[str, Any]:
    return chat() | {"engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-a100"}}}


async def steps(directory: Path) -> World:
    """Up, up and down again, in half an hour."""
    world = World(rate=lambda t: 30.0 if t < 300 else (50.0 if t < 900 else 12.0), spec=chat(), target=3)
    recorder = record(world, directory)
    await world.run(1800)
    recorder.close()
    return world


async def outage(directory: Path) -> World:
    """Prometheus goes while the load rises; somebody scales by hand."""
    world = World(rate=lambda t: 20.0 + t / 20.0, spec=chat(maxAddedPerMinute=1), target=2)
    recorder = record(world, directory)
    await world.run(450)
    world.prometheus_up = False
    await world.run(300)
    world.prometheus_up = True
    world.scale_by_hand(9)
    await world.run(450)
    recorder.close()
    return world


async def restart(directory: Path) -> World:
    """The operator is restarted in the middle: a second process goes on in new files."""
    world = World(rate=lambda t: 25.0 + t / 60.0, spec=chat(), target=2)
    first = record(world, directory)
    await world.run(450)
    first.close()
    world.tables.close()
    world.restart_operator()
    second = record(world, directory)
    await world.run(450)
    second.close()
    return world


async def crash(directory: Path) -> World:
    """The operator is killed while it writes a tick, and again while it compresses what it wrote."""
    world = World(rate=lambda t: 25.0 + t / 60.0, spec=chat(), target=2)
    first = record(world, directory)
    await world.run(450)
    first.close()
    world.tables.close()
    leave_in_the_middle(directory)
    world.restart_operator()
    second = record(world, directory)
    await world.run(450)
    second.close()
    return world


def leave_in_the_middle(directory: Path) -> None:
    (path,) = directory.glob("observations-*")
    path.write_bytes(path.read_bytes()[:-20])
    path.with_name(f".{path.name}.gz.part").write_bytes(b"\x1f\x8b")


async def gateways(directory: Path) -> World:
    """Overload behind gateways, then a scale-down with drains; the fallback cannot be used."""
    spec = routed_chat(max=3, scaleDownWindow="1m") | {"fallback": FALLBACK}
    world = GatewayWorld(rate=lambda t: 90.0 if t < 300 else 10.0, spec=spec, target=2)
    recorder = record(world, directory)
    await world.seconds(720)
    recorder.close()
    return world


@pytest.mark.parametrize("play", [steps, outage, restart, crash, gateways])
async def test_a_replay_of_a_recording_gives_the_recorded_decisions(
    play: Callable[[Path], Awaitable[World]], tmp_path: Path
) -> None:
    records = tmp_path / "records"
    world = await play(records)
    world.tables.close()
    result = replayed(world.spec, recorded(records, "observations"), tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == recorded(records, "decisions")
    decided = lines(result.stdout_bytes)
    assert len({each["replicas"]["value"] for each in decided}) > 1, "nothing was decided"
    if play is gateways:
        assert {each["fallback"]["reason"] for each in decided} == {"FallbackNotFound"}
        assert any(each["admission"]["value"] for each in decided)
    for kind in ("observation", "decision"):
        schema = orjson.loads((DOCS / f"{kind}.schema.json").read_bytes())
        for number, line in enumerate(lines(recorded(records, f"{kind}s")), start=1):
            assert list(faults(line, schema, schema)) == [], f"{kind} {number}"


async def test_a_stream_without_the_operators_own_fields_scales_alike(tmp_path: Path) -> None:
    records = tmp_path / "records"
    world = await steps(records)
    world.tables.close()
    bare = [
        {name: each[name] for name in ("at", "load", "pool")}
        for each in lines(recorded(records, "observations"))
    ]
    result = replayed(world.spec, b"\n".join(map(orjson.dumps, bare)), tmp_path)
    assert result.exit_code == 0, result.stderr
    again, then = lines(result.stdout_bytes), lines(recorded(records, "decisions"))
    # The first tick of the operator had no table yet; here it is solved at once.
    pairs = list(zip(again[1:], then[1:], strict=True))
    assert [one["replicas"]["value"] for one, _ in pairs] == [
        other["replicas"]["value"] for _, other in pairs
    ]


async def test_a_lost_tick_costs_that_tick_and_the_rest_is_replayed(tmp_path: Path) -> None:
    records = tmp_path / "records"
    world = World(rate=lambda t: 20.0 + t / 20.0, spec=chat(), target=2)
    recorder = record(world, records)
    await world.run(300)
    recorder._gap = True  # as after a disk that was too slow
    world.loop._parts.recorder.recorder.take([])  # type: ignore[union-attr]
    await world.run(300)
    recorder.close()
    world.tables.close()
    observations = lines(recorded(records, "observations"))
    assert [each["at"] for each in observations if "begin" in each] == [1_000_000.0, 1_000_300.0]
    result = replayed(world.spec, recorded(records, "observations"), tmp_path)
    assert result.stdout_bytes == recorded(records, "decisions")


@pytest.mark.parametrize("changed", [chat(min=4), other_engine()])
async def test_what_follows_a_change_of_the_service_is_replayed_with_the_changed_one(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    records = tmp_path / "records"
    world = World(rate=lambda t: 20.0 + t / 60.0, spec=chat(), target=2)
    recorder = record(world, records)
    await world.run(900)
    assert next(iter(world.loop.states.values())).memory.speed is not NO_SPEED
    world.spec = changed
    world.spec_generation += 1
    await world.run(900)
    recorder.close()
    world.tables.close()
    observations, decisions = recorded(records, "observations"), recorded(records, "decisions")
    _, begun = (each["begin"]["memory"] for each in lines(observations) if "begin" in each)
    assert "demand" in begun
    assert ("speed" in begun) == (changed["engine"] == chat()["engine"]), "a speed is of its profile"
    after = slice(60, None)
    result = replayed(world.spec, b"\n".join(observations.splitlines()[after]), tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.splitlines() == decisions.splitlines()[after]
    whole = replayed(world.spec, observations, tmp_path)
    assert whole.stdout_bytes.splitlines()[after] == decisions.splitlines()[after]
    assert whole.stdout_bytes != decisions
    assert whole.stderr == (
        f"Warning: line 61: the service was changed here (generation 1 to 2); all lines are decided with "
        f"{tmp_path / 'service.yaml'}; cut the recording here to replay each part with the file of then\n"
    )


async def test_each_segment_is_replayed_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordFiles, "segment_bytes", 30_000)
    records = tmp_path / "records"
    world = await steps(records)
    world.tables.close()
    segments = sorted(records.glob("observations-*"))
    assert len(segments) > 4
    for number in (2, len(segments) - 1, len(segments)):
        result = replayed(world.spec, recorded(records, "observations", number), tmp_path)
        assert result.exit_code == 0, result.stderr
        assert result.stdout_bytes == recorded(records, "decisions", number), number


def test_the_schemas_name_the_fields_that_are_read() -> None:
    from dataclasses import fields

    from penstock.model.observation import Histogram, Load, Pool
    from penstock.model.traffic import GatewayReading
    from penstock.records.observation import _KNOWN

    schema: Any = orjson.loads((DOCS / "observation.schema.json").read_bytes())
    assert set(schema["properties"]) == set(_KNOWN)
    for name, kind in (("load", Load), ("pool", Pool), ("histogram", Histogram), ("reading", GatewayReading)):
        assert set(schema["$defs"][name]["properties"]) == {each.name for each in fields(kind)}, name
