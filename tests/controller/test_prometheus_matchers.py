"""``--prometheus-matcher``: what reaches the queries, and what is refused."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from click.testing import CliRunner

from penstock.cli.main import main
from penstock.controller.app import Operator
from penstock.controller.settings import OperatorSettings, PrometheusSettings
from penstock.kube.api import NotFound
from penstock.metrics_source.identity import SeriesSettings

RUN = ("run", "--prometheus-url", "http://127.0.0.1:9")
EXPLAIN = ("explain", "prod/chat", "--prometheus-url", "http://127.0.0.1:9")
commands = pytest.mark.parametrize("command", [RUN, EXPLAIN], ids=["run", "explain"])


def test_the_operator_gets_each_label_and_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[OperatorSettings] = []
    monkeypatch.setattr("penstock.controller.app.run_operator", lambda settings: seen.append(settings) or 0)
    options = ("--prometheus-matcher", "cluster=prod-1", "--prometheus-matcher", "job=a=b, c")
    result = CliRunner().invoke(main, [*RUN, *options])
    assert result.exit_code == 0, result.output
    assert seen[0].prometheus.matchers == (("cluster", "prod-1"), ("job", "a=b, c"))


class EmptyCluster:
    async def resource_of(self, *_: str) -> None:
        raise NotFound("no such type", status=404)


async def test_they_reach_the_queries_of_a_tick() -> None:
    prometheus = PrometheusSettings("http://127.0.0.1:9", matchers=(("cluster", "prod-1"),))
    async with AsyncExitStack() as stack:
        operator = Operator(OperatorSettings(prometheus), stack)
        await operator._build_loop(EmptyCluster(), has_keda=False)  # type: ignore[arg-type]
        assert operator._loop is not None
        assert operator._loop._parts.collector._settings.matchers == {"cluster": "prod-1"}


def test_explain_asks_with_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SeriesSettings] = []

    async def read(*words: Any) -> Any:
        seen.append(words[-1].settings)
        raise ValueError("enough")

    monkeypatch.setattr("penstock.cli.explain._read", read)
    CliRunner().invoke(main, [*EXPLAIN, "--prometheus-matcher", "cluster=prod-1"])
    assert [each.matchers for each in seen] == [{"cluster": "prod-1"}]


@commands
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("cluster",), "'cluster': write it as NAME=VALUE, for example cluster=prod-1"),
        (("cluster=",), "'cluster=': write it as NAME=VALUE, for example cluster=prod-1"),
        (("=prod-1",), "'=prod-1': write it as NAME=VALUE, for example cluster=prod-1"),
        (
            ("my cluster=a",),
            "'my cluster' cannot identify series: use a label name such as 'namespace' or 'pod'",
        ),
        (("le=1",), "'le' cannot identify series: use a label name such as 'namespace' or 'pod'"),
        (("cluster=a", "cluster=b"), "'cluster' cannot be both 'a' and 'b': give one"),
    ],
)
def test_what_is_no_matcher_is_refused(command: tuple[str, ...], values: tuple[str, ...], said: str) -> None:
    options = [word for value in values for word in ("--prometheus-matcher", value)]
    result = CliRunner().invoke(main, [*command, *options])
    assert result.exit_code == 2
    assert f"Invalid value for '--prometheus-matcher': {said}" in result.stderr
