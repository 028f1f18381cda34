"""A user's query is read once, and each time it is asked for it is the right one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from penstock.metrics_source import confined as module
from penstock.metrics_source.confined import confined
from penstock.metrics_source.identity import SeriesSettings
from penstock.metrics_source.promql_tokens import PromqlRefusedError

SETTINGS = SeriesSettings()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The queries that were read by their grammar."""
    found: list[str] = []
    scope = module.scope

    def noting(promql: str, **more: object) -> object:
        found.append(promql)
        return scope(promql, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "scope", noting)
    module._scoped.cache_clear()
    yield found
    module._scoped.cache_clear()


def test_a_query_is_read_once_however_many_ticks_there_are(read: list[str]) -> None:
    assert {confined("sum(up)", "prod", SETTINGS).promql for _ in range(3)} == {
        'sum ( up{namespace="prod"} )'
    }
    assert read == ["sum(up)"]


def test_a_refusal_is_read_once_too_and_raised_anew_each_time(read: list[str]) -> None:
    errors = []
    for _ in range(3):
        with pytest.raises(PromqlRefusedError, match="where \\) is expected") as caught:
            confined("sum(up", "prod", SETTINGS)
        errors.append(caught.value)
    assert read == ["sum(up"]
    assert len(set(map(id, errors))) == 3  # one that is raised again and again keeps all its tracebacks


@pytest.mark.parametrize(
    ("namespace", "settings", "expected"),
    [
        ("prod", SETTINGS, 'up{namespace="prod"}'),
        ("other", SETTINGS, 'up{namespace="other"}'),
        ("prod", SeriesSettings(namespace_label="ns"), 'up{ns="prod"}'),
        ("prod", SeriesSettings(matchers={"cluster": "a"}), 'up{namespace="prod",cluster="a"}'),
        ("prod", SeriesSettings(matchers={"cluster": "b"}), 'up{namespace="prod",cluster="b"}'),
    ],
)
def test_what_was_read_for_one_namespace_is_nobody_elses(
    namespace: str, settings: SeriesSettings, expected: str
) -> None:
    assert confined("up", namespace, settings).promql == expected
