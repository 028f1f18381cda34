"""What is asked of the system for a given limit of open files."""

from __future__ import annotations

import resource

import pytest
from click.testing import CliRunner, Result

from penstock.cli.engine import engine
from penstock.cli.load import load
from penstock.engine.open_files import raise_file_limit

ENDLESS = resource.RLIM_INFINITY


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked for where 1,024 files are granted and 4,096 may be."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    return limits


@pytest.mark.parametrize(
    ("granted", "wanted"),
    [
        ((1024, 4096), [(4096, 4096)]),
        ((1024, 1_048_576), [(65_536, 1_048_576)]),
        ((1024, ENDLESS), [(65_536, ENDLESS)]),
        ((4096, 4096), []),
        ((100_000, 1_048_576), []),
        ((ENDLESS, ENDLESS), []),
    ],
)
def test_the_soft_limit_goes_towards_the_hard_one(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[int, int]],
    granted: tuple[int, int],
    wanted: list[tuple[int, int]],
):
    monkeypatch.setattr(resource, "getrlimit", lambda _: granted)
    raise_file_limit()
    assert asked == wanted


def test_a_limit_that_is_refused_stays(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, ENDLESS))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_file_limit()


def test_the_load_and_the_engine_ask_for_more_files(asked: list[tuple[int, int]]):
    def status(done: Result) -> int:
        return done.exit_code

    nowhere = ["--url", "http://127.0.0.1:1", "--rate", "1", "--duration", "1s", "--warmup", "2s"]
    assert status(CliRunner().invoke(load, nowhere)) == 2
    assert status(CliRunner().invoke(engine, ["--profile", "none"])) == 1
    assert asked == [(4096, 4096)] * 2
